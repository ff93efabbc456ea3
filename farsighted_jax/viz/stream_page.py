"""The page of a stream: its samples as a model gets them, the mixture as it comes, the loader's speed."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.stream import Stream
from farsighted_jax.core.normalization import ArrayStatistics, denormalize, denormalize_depth
from farsighted_jax.viz import strips, tiles
from farsighted_jax.viz.depth import depth_colors
from farsighted_jax.viz.page import Picture, Section, Table, write_page

# Batches among which rows of each dataset are looked for.
MAX_BATCHES = 10_000
HIDDEN = "masked"


def write_stream_page(path: str | Path, stream: Stream, report: Mapping[str, Any], clips: int = 2) -> Path:
    """Draws `clips` samples of each dataset of a stream, and tables of a report.

    Args:
      path: HTML file.
      stream: open, of one host.
      report: "mixture" and "loader", see `cli.inspect.data_report`.
      clips: samples a dataset; fewer where it gives fewer.

    Returns:
      The path.
    """
    sections = [Section("Mixture", tables=[_mixture(report["mixture"])])]
    if report["loader"]:
        rows = [(name, _shown(value)) for name, value in report["loader"].items()]
        sections.append(Section("Loader", tables=[Table("Speed and memory", ("", ""), rows)]))
    with tempfile.TemporaryDirectory() as folder:
        for number, (batch, row) in enumerate(samples(stream, clips)):
            sections.append(_sample(stream, batch, row, Path(folder) / str(number)))
        lead = f"{stream.num_windows} windows of {len(stream.names)} dataset(s), as training gets them."
        return write_page(path, "What the model sees", sections, lead)


def samples(stream: Stream, clips: int) -> Iterator[tuple[Mapping[str, np.ndarray], int]]:
    """(batch, row) of the first `clips` samples of each dataset, dataset by dataset."""
    places: dict[int, list[tuple[int, int]]] = {index: [] for index in range(len(stream.names))}
    for step in range(MAX_BATCHES):
        for row, (dataset, _, _) in enumerate(stream.ids(step).tolist()):
            if len(places[dataset]) < clips:
                places[dataset].append((step, row))
        if all(len(found) == clips for found in places.values()):
            break
    for found in places.values():
        for step, row in found:
            yield stream.batch(step), row


def unnormalised_actions(stream: Stream, batch: Mapping[str, np.ndarray], row: int) -> np.ndarray | None:
    """A sample's action chunk in its dataset's units, the gripper 1 = open; None without actions.

    Returns:
      float32[J, M] of the dataset's own M dimensions; NaN where there is no action.
    """
    name = stream.names[int(batch["dataset"][row])]
    spec, found = stream.specs[name].action, stream.statistics[name]["action"]
    if spec is None or found is None or "action" not in batch:
        return None
    keep = [group == "gripper" for group in spec.groups]
    statistics = ArrayStatistics.from_dict(found)
    chunk_JM = batch["action"][row][:, : spec.width]
    values_JM = denormalize(chunk_JM, statistics, stream.normalization, keep)
    return np.where(batch["action_valid"][row][:, : spec.width], values_JM, np.float32(np.nan))


def _sample(stream, batch, row, folder):
    name = stream.names[int(batch["dataset"][row])]
    place = f"{name}, episode {int(batch['episode'][row])}, step {int(batch['step'][row])}"
    pictures = [
        Picture(_clip(batch, row, folder / "clip.png"), "Keyframes; gray: past the end of the episode")
    ]
    if "history_rgb" in batch:
        caption = "History, one row a camera, the oldest frame first; gray: no such frame or camera"
        pictures.append(Picture(_history(batch, row, folder / "history.png"), caption))
    return Section(
        place, _text(stream, batch, row), tables=list(_tables(stream, name, batch, row)), pictures=pictures
    )


def _clip(batch, row, path):
    valid_T = batch["frame_valid"][row]
    empty = ("",) * len(valid_T)
    drawn = [strips.Strip(("rgb",), batch["rgb"][row], valid_T, empty)]
    for field in ("depth", "sensed_depth"):
        if field in batch:
            measured = batch[f"{field}_valid"][row, ..., 0]
            constants = batch["depth_center"][row], batch["depth_scale"][row]
            metres = denormalize_depth(batch[field][row, ..., 0], *constants)
            drawn.append(_depth(field, metres, measured, valid_T))
    if "goal_rgb" in batch:
        goal = np.repeat(batch["goal_rgb"][row][None], len(valid_T), axis=0)
        first = np.arange(len(valid_T)) == 0
        seconds = f"+{batch['goal_time_s'][row]:.3g} s"
        drawn.append(strips.Strip(("goal",), goal, first & batch["goal_valid"][row], (seconds, *empty[1:])))
    return tiles.write_png(path, strips.strip_sheet(strips.frame_titles(batch["time_s"][row]), drawn))


def _depth(field, metres_THW, measured_THW, valid_T):
    near, far = np.quantile(metres_THW[measured_THW], (0.02, 0.98)) if measured_THW.any() else (0.1, 1.0)
    frames = [
        depth_colors(metres_HW, measured_HW, near, max(far, near * 1.01))
        for metres_HW, measured_HW in zip(metres_THW, measured_THW, strict=True)
    ]
    shares = [f"{measured.mean():.0%} measured" for measured in measured_THW]
    label = (field.replace("_", " "), f"{near:.2f} m to", f"{far:.2f} m")
    return strips.Strip(label, np.stack(frames), valid_T, shares)


def _history(batch, row, path):
    rgb_RPHWC, valid_RP = batch["history_rgb"][row], batch["history_valid"][row]
    frames, cameras = valid_RP.shape
    drawn = [
        strips.Strip((f"camera {p}",), rgb_RPHWC[:, p], valid_RP[:, p], ("",) * frames)
        for p in range(cameras)
    ]
    titles = (*(f"frame {number - frames + 1}" for number in range(frames - 1)), "frame 0")
    return tiles.write_png(path, strips.strip_sheet(titles, drawn))


def _text(stream, batch, row):
    if "text" not in batch:
        return ""
    valid = batch["text_valid"][row]
    told = stream.tokenizer.text(batch["text"][row][valid]).decode("utf-8", errors="replace")
    return f"Told: {told!r}, {int(valid.sum())} of {len(valid)} tokens." if valid.any() else "Told nothing."


def _tables(stream, name, batch, row):
    spec = stream.specs[name]
    values_JM = unnormalised_actions(stream, batch, row)
    if values_JM is not None:
        heads = [f"{of} [{unit}]" for of, unit in zip(spec.action.names, spec.action.units, strict=True)]
        rows = [(f"step {step}", *_cells(values)) for step, values in enumerate(values_JM)]
        caption = "Actions in the dataset's units from frame 0 on, the gripper 1 = open"
        yield Table(caption, ("", *heads), rows)
    found = stream.statistics[name]["state"]
    if found is not None and "proprio" in batch:
        width = len(found["mean"])
        state = denormalize(
            batch["proprio"][row][:width], ArrayStatistics.from_dict(found), stream.normalization
        )
        names = spec.state_names or tuple(f"s{i}" for i in range(width))
        state = np.where(batch["proprio_valid"][row][:width], state, np.nan)
        yield Table("State at frame 0", ("", *names), [("state", *_cells(state))])
    masks = [
        (field, f"{int(batch[field][row].sum())} of {batch[field][row].size}")
        for field in sorted(batch)
        if field.endswith("_valid")
    ]
    yield Table("Masks: values that are there", ("", "True"), masks)


def _cells(values):
    return [HIDDEN if np.isnan(value) else f"{value:.4g}" for value in values]


def _mixture(mixture):
    rows = [
        (name, f"{of['weight']:.4%}", f"{of['share']:.4%}", f"{of['share'] / of['weight'] - 1:+.2%}")
        for name, of in mixture["datasets"].items()
    ]
    caption = f"Realised in the first {mixture['samples']} samples"
    return Table(caption, ("dataset", "weight", "share", "difference"), rows)


def _shown(value):
    return f"{value:g}" if isinstance(value, float) else str(value)
