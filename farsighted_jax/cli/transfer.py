"""`farsighted transfer`: the motion of clip A, as its codes tell it, applied to the first frame of clip B."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    clip_help = "video file, folder of pictures, or rlds:DIR/NAME:SPLIT:EPISODE[:STEP]"
    parser = argparse.ArgumentParser(prog="farsighted transfer", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="run folder")
    parser.add_argument("--source", required=True, help=f"clip A: {clip_help}")
    parser.add_argument("--target", required=True, help="clip B likewise, or a picture")
    parser.add_argument("--out", required=True, help=".png or .mp4 to write")
    parser.add_argument("--fps", type=float, help="frames a second, where a clip does not say")
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    flags = arguments.parse_flags(parser, argv)
    out = run(Path(flags.out), flags.checkpoint, flags.source, flags.target, flags.fps, flags.step)
    print(f"picture: {out}")
    return 0


def run(
    out: Path, checkpoint: str, source: str, target: str, fps: float | None = None, step: int | None = None
) -> Path:
    """Draws A, A as its codes repaint it, and B moved by A's codes; returns `out`.

    Raises:
      DatasetError, KeyframeError, ClipReferenceError: a clip cannot be used.
      PictureError: `out` has no suffix that is known.
    """
    import numpy as np

    from farsighted_jax.cli.clips import load_model
    from farsighted_jax.cli.pictures import Panel, check_picture, write_picture

    check_picture(out)
    model = load_model(checkpoint, step)
    _, clip = model.one_clip(source, fps)
    target_HWC = model.first_frame(target, fps)
    code_tZ = np.asarray(model.actions.encode(clip)["code"])[0]
    first_BHWC = np.stack([clip["rgb"][0, 0], target_HWC])
    time_s_t = clip["time_s"][0, 1:]
    decoded = model.decoded(first_BHWC, np.stack([time_s_t] * 2), np.stack([code_tZ] * 2))
    depth_m = model.depth_m(decoded["depth"])
    panels = [Panel(("A",), first_BHWC[0], clip["rgb"][0, 1:], time_s_t, code_tZ)]
    for row, label in enumerate((("A from", "its codes"), ("B moved", "by A's", "codes"))):
        panels.append(
            Panel(
                label,
                first_BHWC[row],
                decoded["rgb"][row],
                time_s_t,
                depth_m=None if depth_m is None else depth_m[row],
            )
        )
    footer = (
        f"A: {Path(source).name}   B: {Path(target).name}",
        "under A's frames: its codes of frame 0 -> that frame, one a slot.",
    )
    return write_picture(out, [panels], footer)
