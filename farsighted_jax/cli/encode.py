"""`farsighted encode`: the codes of a video, as a file and as a sheet of keyframes with their codes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments

SHEET_ROWS = 12


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted encode", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="run folder")
    parser.add_argument(
        "--video",
        required=True,
        help="video file, folder of pictures, or rlds:DIR/NAME:SPLIT:EPISODE[:STEP]",
    )
    parser.add_argument("--fps", type=float, help="frames a second, where the video does not say")
    parser.add_argument(
        "--every", type=float, help="seconds between two clips (default: one after the other)"
    )
    parser.add_argument(
        "--out", required=True, help="file of codes to write, .json or .npz; a .png beside it"
    )
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    flags = arguments.parse_flags(parser, argv)
    sheet = run(Path(flags.out), flags.checkpoint, flags.video, flags.fps, flags.every, flags.step)
    print(f"codes: {flags.out}\npicture: {sheet}")
    return 0


def run(
    out: Path,
    checkpoint: str,
    video: str,
    fps: float | None = None,
    every_s: float | None = None,
    step: int | None = None,
) -> Path:
    """Encodes a video into `out`; returns the picture beside it.

    Raises:
      DatasetError, KeyframeError, ClipReferenceError: the video cannot be used as asked.
      CodeFileError: `out` has no suffix that is known.
    """
    import numpy as np

    from farsighted_jax.cli.clips import load_model
    from farsighted_jax.cli.code_files import CodeFile, check_suffix, write_codes

    check_suffix(out)
    model = load_model(checkpoint, step)
    source, first = model.open(video, fps)
    starts = model.starts(source, every_s=every_s, first=first or 0)
    rows = model.run.config.eval.batch_size
    shown = set(np.linspace(0, len(starts) - 1, min(SHEET_ROWS, len(starts))).astype(int).tolist())
    times, codes, clips = [], [], []
    # A batch at a time: a long video does not fit into memory.
    for begin in range(0, len(starts), rows):
        batch = model.clips(source, starts[begin : begin + rows])
        codes.append(model.actions.encode_rows(batch, rows))
        times.append(batch["time_s"][:, 1:])
        clips += [(begin + i, clip) for i, clip in enumerate(batch["rgb"]) if begin + i in shown]
    arrays = {name: np.concatenate([part[name] for part in codes]) for name in codes[0]}
    about = {"name": source.name, "hz": source.hz, "num_frames": source.num_frames}
    found = CodeFile(model.describe(), about, np.array(starts), np.concatenate(times), arrays.pop("code"))
    write_codes(out, found, arrays)
    return _draw(out.with_suffix(".png"), found, clips)


def _draw(path, codes, clips):
    import numpy as np

    from farsighted_jax.viz import strips, tiles

    drawn = []
    for index, clip in clips:
        start = int(codes.start_B[index])
        label = (f"clip {index}", f"frame {start}", f"{start / codes.source['hz']:.2f} s")
        captions = strips.code_captions(codes.code_BtZ[index])
        drawn.append(strips.Strip(label, clip, np.ones(len(clip), bool), captions))
    titles = strips.frame_titles(np.array([0.0, *codes.time_s_Bt[0]]))
    shown = f"{len(clips)} of {len(codes.start_B)} clips of {Path(codes.source['name']).name}"
    footer = (f"{shown}; under each frame the codes of frame 0 -> that frame, one a slot.",)
    return tiles.write_png(path, strips.strip_sheet(titles, drawn, footer))
