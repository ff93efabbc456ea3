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
    from farsighted_jax.cli.clips import load_model
    from farsighted_jax.cli.pictures import Panel, check_picture, write_picture

    check_picture(out)
    model = load_model(checkpoint, step)
    _, clip = model.one_clip(source, fps)
    target_HWC = model.first_frame(target, fps)
    code_BtZ = model.actions.encode_rows(clip, model.run.config.eval.batch_size)["code"]
    own_HWC, time_s_Bt = clip["rgb"][0, 0], clip["time_s"][:, 1:]
    panels = [Panel(("A",), own_HWC, clip["rgb"][0, 1:], time_s_Bt[0], code_BtZ[0])]
    for label, first_HWC in (
        (("A from", "its codes"), own_HWC),
        (("B moved", "by A's", "codes"), target_HWC),
    ):
        decoded = model.decoded(first_HWC, time_s_Bt, code_BtZ)
        depth_m = model.depth_m(decoded["depth"][0])
        panels.append(Panel(label, first_HWC, decoded["rgb"][0], time_s_Bt[0], depth_m=depth_m))
    footer = (
        f"A: {Path(source).name}   B: {Path(target).name}",
        "under A's frames: its codes of frame 0 -> that frame, one a slot.",
    )
    return write_picture(out, [panels], footer)
