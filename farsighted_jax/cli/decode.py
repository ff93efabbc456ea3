"""`farsighted decode`: the frames and depth that codes predict from one picture, as PNG or mp4."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted decode", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="run folder")
    parser.add_argument("--image", required=True, help="picture, or a clip whose first frame is taken")
    parser.add_argument("--codes", required=True, help="file that `farsighted encode` wrote")
    parser.add_argument("--clip", type=int, help="number of one clip in it (default: all)")
    parser.add_argument("--out", required=True, help=".png or .mp4 to write")
    parser.add_argument("--fps", type=float, help="frames a second of the clip, where it does not say")
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    flags = arguments.parse_flags(parser, argv)
    out = run(
        Path(flags.out), flags.checkpoint, flags.image, Path(flags.codes), flags.clip, flags.fps, flags.step
    )
    print(f"picture: {out}")
    return 0


def run(
    out: Path,
    checkpoint: str,
    image: str,
    codes_path: Path,
    clip: int | None = None,
    fps: float | None = None,
    step: int | None = None,
) -> Path:
    """Decodes codes from the first frame of `image`; returns `out`.

    Raises:
      DatasetError, ClipReferenceError: the picture cannot be read.
      CodeFileError, CodeError, PictureError: codes or `out` are not usable.
    """
    from farsighted_jax.cli.clips import load_model
    from farsighted_jax.cli.code_files import CodeFileError, read_codes
    from farsighted_jax.cli.pictures import Panel, check_picture, write_picture

    check_picture(out)
    model = load_model(checkpoint, step)
    codes = read_codes(codes_path, model.describe())
    if clip is not None and not 0 <= clip < len(codes.start_B):
        raise CodeFileError(f"{codes_path}: no clip {clip}, it has {len(codes.start_B)} from 0 on")
    chosen = range(len(codes.start_B)) if clip is None else [clip]
    first_HWC = model.first_frame(image, fps)
    panels = []
    for index in chosen:
        decoded = model.decoded(first_HWC, codes.time_s_Bt[index][None], codes.code_BtZ[index][None])
        panels.append(
            Panel(
                label=(f"clip {index}", f"from {int(codes.start_B[index])}"),
                first=first_HWC,
                rgb=decoded["rgb"][0],
                depth_m=model.depth_m(decoded["depth"][0]),
                time_s=codes.time_s_Bt[index],
                code=codes.code_BtZ[index],
            )
        )
    footer = ("predicted from frame 0 and the codes under each frame.",)
    return write_picture(out, [[panel] for panel in panels], footer)
