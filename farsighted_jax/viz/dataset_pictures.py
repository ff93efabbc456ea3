"""Pictures of a dataset for its card: first frames, strips of frames and depth, histograms."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from data_pipelines.checks.survey import Survey, evenly
from data_pipelines.errors import RecordError
from data_pipelines.oddities import state_names
from data_pipelines.trajectory import oriented
from farsighted_jax.core.spec import CameraSpec
from farsighted_jax.viz import charts, strips, tiles
from farsighted_jax.viz.depth import depth_colors

COLUMNS = 8
BINS = 60
GROUP_COLORS = dict(
    zip(("translation", "rotation", "gripper", "joint", "other"), charts.COLORS, strict=False)
)


def thumbnails(path: Path, seen: Survey, camera: CameraSpec, most: int = 16) -> Path | None:
    """First frames of up to `most` episodes, evenly spread; None if there is none to show."""
    shown = [episode for episode in seen.episodes if episode.num_steps]
    shown = [shown[i] for i in evenly(len(shown), most)]
    frames = [_shown(seen, camera, [episode.number], [0]) for episode in shown]
    frames = [(episode, frame[0]) for episode, frame in zip(shown, frames, strict=True) if frame]
    if not frames:
        return None
    rows = []
    for first in range(0, len(frames), COLUMNS):
        row = frames[first : first + COLUMNS]
        blank = [tiles.Tile(np.full_like(frames[0][1], 255))] * (COLUMNS - len(row))
        drawn = [tiles.Tile(_like(image, frames[0][1]), f"episode {e.number}") for e, image in row]
        rows.append(tiles.Row((), ((*drawn, *blank),)))
    heads = (("",) * COLUMNS,)
    return tiles.write_png(path, tiles.sheet((camera.name,), heads, rows, ()))


def keyframe_strips(path: Path, seen: Survey, camera: CameraSpec, most: int = 4) -> Path | None:
    """Frames of up to `most` episodes at evenly spaced times, depth below them; None if there is none."""
    episodes = [episode for episode in seen.episodes if episode.num_steps]
    drawn, footer = [], []
    for episode in (episodes[i] for i in evenly(len(episodes), most)):
        steps = np.linspace(0, episode.num_steps - 1, COLUMNS).round().astype(int).tolist()
        frames = _shown(seen, camera, [episode.number] * COLUMNS, steps)
        if frames is None:
            continue
        captions = [f"{step / seen.spec.hz:.4g} s" if seen.spec.hz else f"step {step}" for step in steps]
        label = (f"episode {episode.number}", f"{episode.num_steps} steps")
        drawn.append((label, frames, captions))
        if depth := _depth_row(seen, camera, episode.number, steps):
            drawn.append((depth[0], [_like(image, frames[0]) for image in depth[1]], [""] * COLUMNS))
        text = episode.instruction.decode("utf-8", errors="replace").encode("ascii", "replace").decode()
        footer.append(f"episode {episode.number}: {text or '(no instruction)'}"[:150])
    if not drawn:
        return None
    first = drawn[0][1][0]
    rows = [
        strips.Strip(
            label,
            np.stack([_like(frame, first) for frame in frames]),
            np.ones(COLUMNS, bool),
            captions,
        )
        for label, frames, captions in drawn
    ]
    return tiles.write_png(path, strips.strip_sheet([""] * COLUMNS, rows, footer))


def action_histograms(path: Path, seen: Survey) -> Path | None:
    """One panel an action dimension, the gripper 1 = open; None without actions."""
    spec = seen.spec.action
    rows = [oriented(e.actions, spec) for e in seen.episodes if e.actions is not None]
    if not rows or not sum(map(len, rows)):
        return None
    titles = [
        f"{name}, {unit}{', a change' if delta else ''}"
        for name, unit, delta in zip(spec.names, spec.units, spec.delta, strict=True)
    ]
    colors = [GROUP_COLORS[group] for group in spec.groups]
    return _histograms(path, np.concatenate(rows), seen.statistics.action, titles, colors)


def state_histograms(path: Path, seen: Survey) -> Path | None:
    """One panel a dimension of the state; None without."""
    found = seen.statistics.state
    if found is None:
        return None
    rows = np.concatenate([e.states for e in seen.episodes if e.states is not None])
    titles = state_names(seen.spec, len(found.mean))
    return _histograms(path, rows, found, titles, [charts.COLORS[5]] * len(titles))


def length_histogram(path: Path, surveys: Sequence[Survey]) -> Path:
    """Steps of the episodes of every split."""
    figure = charts.new_figure(5.0, 2.6)
    axes = figure.subplots()
    lengths = {seen.split.split: [episode.num_steps for episode in seen.episodes] for seen in surveys}
    every = np.concatenate([*map(np.asarray, lengths.values()), [0]]).astype(int)
    width = max(1, -(-int(every.max() + 1) // BINS))
    edges = np.arange(0, every.max() + 2 * width, width) - 0.5
    for color, (name, values) in zip(charts.COLORS, lengths.items(), strict=False):
        axes.hist(values, bins=edges, color=color, alpha=0.6, label=name)
    axes.legend(fontsize=8, frameon=False)
    charts.style_axes(axes, "length", "steps", "episodes")
    return charts.save(figure, path)


def _histograms(path, rows_BM, statistics, titles, colors):
    columns = min(4, len(titles))
    lines = -(-len(titles) // columns)
    figure = charts.new_figure(3.1 * columns, 2.1 * lines)
    panels = figure.subplots(lines, columns, squeeze=False).ravel()
    for i, axes in enumerate(panels):
        if i >= len(titles):
            axes.set_axis_off()
            continue
        margin = 0.25 * (statistics.q99[i] - statistics.q01[i])
        low = max(statistics.min[i], statistics.q01[i] - margin)
        high = min(statistics.max[i], statistics.q99[i] + margin)
        if low == high:
            low, high = low - 0.5, high + 0.5
        axes.hist(np.clip(rows_BM[:, i], low, high), bins=BINS, range=(low, high), color=colors[i], log=True)
        for limit in (statistics.q01[i], statistics.q99[i]):
            axes.axvline(limit, color="#202020", linewidth=0.8, linestyle="--")
        # One step is visible on a logarithmic axis.
        axes.set_ylim(bottom=0.7)
        charts.style_axes(axes, titles[i], "", "steps" if i % columns == 0 else "")
    return charts.save(figure, path)


def _shown(seen, camera, numbers, steps):
    """Small pictures of some steps, or None where one cannot be read."""
    try:
        episodes = {number: seen.split.episode(number) for number in set(numbers)}
        images = [
            episodes[number].rgb(step, camera.name) for number, step in zip(numbers, steps, strict=True)
        ]
    except RecordError:
        return None
    turned = [image[::-1, ::-1] if camera.rotate_180 else image for image in images]
    return [tiles.upscaled(_small(image)) for image in turned]


def _depth_row(seen, camera, number, steps):
    """Label and coloured depth maps of some steps, or None where there is none."""
    if not camera.depth_key:
        return None
    try:
        episode = seen.split.episode(number)
        maps = [episode.depth(step, camera.name) * camera.depth_unit_m for step in steps]
    except RecordError:
        return None
    valid = [np.isfinite(m) & (m > 0) & (m <= camera.depth_max_m) for m in maps]
    values = np.concatenate([m[v] for m, v in zip(maps, valid, strict=True)])
    near, far = np.percentile(values, [2, 98]) if len(values) else (0.1, 10.0)
    colored = [depth_colors(m, v, near, far) for m, v in zip(maps, valid, strict=True)]
    turned = [image[::-1, ::-1] if camera.rotate_180 else image for image in colored]
    return ("depth", f"{near:.2f} m to", f"{far:.2f} m"), turned


def _small(image_HWC):
    height, width = image_HWC.shape[:2]
    factor = tiles.TILE_PX / min(height, width)
    if factor >= 1:
        return np.ascontiguousarray(image_HWC)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return cv2.resize(np.ascontiguousarray(image_HWC), size, interpolation=cv2.INTER_AREA)


def _like(image_HWC, other_HWC):
    """The picture at the size of another."""
    if image_HWC.shape == other_HWC.shape:
        return image_HWC
    size = other_HWC.shape[1::-1]
    return cv2.resize(np.ascontiguousarray(image_HWC), size, interpolation=cv2.INTER_NEAREST)
