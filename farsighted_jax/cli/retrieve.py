"""`farsighted retrieve`: the clips whose codes are nearest to those of a query, as JSON and a sheet.

The distance of two clips is the root of the mean squared difference of their
code vectors (after quantisation, or before it), over all transitions, slots
and channels. It is computed for every candidate, exactly. Clips of the query's
own video or episode are left out. With --labels the codes that `farsighted
label` has written are read; only the query is encoded, and of the candidates
only the frames of the nearest are decoded, for the sheet.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from farsighted_jax.cli import arguments

VECTORS = {"quantized": "quantised code vectors", "encoded": "code vectors before quantisation"}


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted retrieve", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="run folder")
    parser.add_argument(
        "--query", required=True, help="video file, folder of pictures, or rlds:DIR/NAME:SPLIT:EPISODE[:STEP]"
    )
    parser.add_argument("--data", help="folder of datasets to search (default: the run's)")
    parser.add_argument("--mixture", help="datasets to search (default: the run's)")
    parser.add_argument("--split", default="train", help="of each (default: train)")
    parser.add_argument(
        "--videos", nargs="+", help="videos or folders of videos to search in place of datasets"
    )
    parser.add_argument(
        "--labels", help="folder of datasets with the codes that `farsighted label` has written of them"
    )
    parser.add_argument("--fps", type=float, help="frames a second, where a video does not say")
    parser.add_argument("--every", type=float, help="seconds between two candidates (default: every frame)")
    parser.add_argument(
        "--vectors",
        choices=tuple(VECTORS),
        default="quantized",
        help="what is compared: after quantisation (default) or before it",
    )
    parser.add_argument(
        "--one-per-video", action="store_true", help="the best clip of each video or episode alone"
    )
    parser.add_argument("-k", type=int, default=5, help="clips to show (default: 5)")
    parser.add_argument("--out", required=True, help=".png to write, with a .json beside it")
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    flags = arguments.parse_flags(parser, argv)
    if flags.k < 1:
        arguments.fail(parser, f"-k is {flags.k}, expected >= 1")
    if flags.labels and flags.videos:
        arguments.fail(parser, "--labels holds codes of datasets, --videos searches videos; give one of them")
    if flags.labels and flags.vectors != "quantized":
        arguments.fail(parser, f"--labels holds codes alone, no vectors for --vectors {flags.vectors}")
    result = run(flags)
    for entry in result["clips"]:
        print(f"{entry['distance']:.4f}  {entry['name']}  frame {entry['start']} ({entry['start_s']:.2f} s)")
    print(f"picture: {flags.out}\nresult: {Path(flags.out).with_suffix('.json')}")
    return 0


def run(flags: argparse.Namespace) -> dict:
    """Searches, draws and writes; returns what stands in the JSON file.

    Raises:
      DatasetError, KeyframeError, ClipReferenceError: query or candidates cannot be used.
      LabelError: the labels are of another model, other keyframes or another dataset.
      RetrievalError: there is no candidate.
    """
    import numpy as np

    from farsighted_jax.cli.clips import load_model
    from farsighted_jax.cli.pictures import check_picture
    from farsighted_jax.lam.retrieval import NearestClips

    out = Path(flags.out)
    check_picture(out.with_suffix(".png") if out.suffix != ".png" else out)
    model = load_model(flags.checkpoint, flags.step)
    source, query = model.one_clip(flags.query, flags.fps)
    rows = model.run.config.eval.batch_size
    wanted = model.actions.encode_rows(query, rows)
    nearest = NearestClips(wanted[flags.vectors][0], flags.k, flags.one_per_video)
    for candidate, starts, vectors, code in (_labelled if flags.labels else _encoded)(model, flags, rows):
        if candidate.name != source.name:
            nearest.add(candidate, starts, vectors, code)
    entries = nearest.result()
    result = {
        "query": {
            "name": source.name,
            "start": int(query["step"][0]),
            "start_s": float(query["step"][0] / source.hz),
            "codes": wanted["code"][0].tolist(),
        },
        "distance": f"root mean squared difference of the {VECTORS[flags.vectors]} of all transitions",
        "candidates": nearest.num_seen,
        "mean_distance": nearest.mean_distance,
        "model": model.describe(),
        "clips": [{key: value for key, value in entry.items() if key != "source"} for entry in entries],
    }
    frames = [model.clips(entry["source"], [entry["start"]])["rgb"][0] for entry in entries]
    _draw(out, query["rgb"][0], np.array(wanted["code"][0]), query["time_s"][0], source, result, frames)
    out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


def _encoded(model, flags, rows) -> Iterator:
    """(source, starts, vectors, codes) of all candidates, some clips at a time."""
    for source in _candidates(model, flags):
        starts = _starts(model, source, flags.every)
        for begin in range(0, len(starts), rows):
            part = starts[begin : begin + rows]
            found = model.actions.encode_rows(model.clips(source, part), rows)
            yield source, part, found[flags.vectors], found["code"]


def _labelled(model, flags, rows) -> Iterator:
    """As `_encoded`, an episode at a time, from stored codes."""
    from farsighted_jax.cli.label import open_labels

    for split in _splits(model, flags):
        labels = open_labels(flags.labels, model, split)
        for number in range(labels.num_episodes):
            stored = labels.episode(number)
            complete_L = stored.valid_Lt.all(axis=1)
            if not complete_L.any():
                continue
            # A damaged episode has no valid code and is not opened.
            source = model.episode(split, number)
            starts = [start for start in _starts(model, source, flags.every) if complete_L[start]]
            code_BtZ = stored.code_LtZ[starts]
            yield source, starts, model.actions.vectors(code_BtZ), code_BtZ


def _splits(model, flags) -> Iterator:
    from data_pipelines.mixture import parse_mixture

    data = model.run.config.data
    for name in parse_mixture(flags.mixture or data.mixture, flags.data or data.dir):
        yield model.open_split(flags.data or data.dir, name, flags.split)


def _candidates(model, flags) -> Iterator:
    from data_pipelines.errors import RecordError
    from data_pipelines.video.reader import find_videos, open_video

    if flags.videos:
        for folder in flags.videos:
            for path in find_videos(folder):
                yield open_video(path, flags.fps)
        return
    for split in _splits(model, flags):
        for number in range(split.num_episodes):
            try:
                yield model.episode(split, number)
            except RecordError:
                if split.on_corrupt == "strict":
                    raise


def _starts(model, source, every_s):
    """Starts of complete clips; none where the source is too short."""
    from data_pipelines.clips import clip_steps

    if source.num_frames <= clip_steps(source, model.offsets_of(source.dataset))[-1]:
        return range(0)
    return model.starts(source, every_s=1 / source.hz if every_s is None else every_s)


def _draw(out, frames, code, time_s, source, result, found):
    import numpy as np

    from farsighted_jax.viz import strips, tiles

    def strip(label, frames, code):
        return strips.Strip(label, frames, np.ones(len(frames), bool), strips.code_captions(code))

    drawn = [strip(("query", f"frame {result['query']['start']}"), frames, code)]
    for rank, (entry, frames) in enumerate(zip(result["clips"], found, strict=True), start=1):
        label = (f"{rank}. {entry['distance']:.3f}", _short(entry["name"]), f"frame {entry['start']}")
        drawn.append(strip(label, frames, np.array(entry["codes"])))
    footer = (
        f"query: {Path(source.name).name}; {result['candidates']} candidates, mean distance "
        f"{result['mean_distance']:.3f}.",
        f"number: {result['distance']}.",
    )
    tiles.write_png(out, strips.strip_sheet(strips.frame_titles(time_s), drawn, footer))


def _short(name):
    """What tells videos, or episodes of a dataset, apart, as long as a label is wide."""
    last = Path(name).name
    return (last.partition(":")[2] or last)[-13:]
