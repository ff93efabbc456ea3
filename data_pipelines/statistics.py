"""Statistics of a split: one pass over actions and states, without images, kept in a cache.

The pass also yields the episode lengths that windows are counted from. Depth
constants need images; they come from a bounded, evenly spaced sample of frames.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from data_pipelines import cache
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.frame import Preprocessing, prepare_depth
from data_pipelines.rlds import RldsSplit
from data_pipelines.trajectory import oriented
from farsighted_jax.core.normalization import ArrayStatistics
from farsighted_jax.core.spec import to_dict

_LAYOUT = 1
# Quantiles are exact up to this many rows; beyond it, of every 2nd, 4th, 8th ... row.
MAX_ROWS = 2_000_000
MAX_DEPTH_FRAMES = 64


class StatisticsError(DatasetError):
    """A split that no statistics can be made of; the message names it."""


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """What the image-free pass finds.

    Attributes:
      lengths: int32[E] steps of each episode; 0 for a damaged one that was skipped.
      action: of the oriented actions (see `trajectory.oriented`), or None without actions.
      state: of the proprioception, or None without it.
      num_skipped: episodes left out because they are damaged or hold a NaN or Inf.
    """

    lengths: np.ndarray
    action: ArrayStatistics | None
    state: ArrayStatistics | None
    num_skipped: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        arrays = {
            name: array and array.to_dict()
            for name, array in (("action", self.action), ("state", self.state))
        }
        return {"lengths": self.lengths.tolist(), **arrays, "num_skipped": self.num_skipped}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SplitStatistics:
        """Inverse of `to_dict`."""
        action, state = (values[n] and ArrayStatistics.from_dict(values[n]) for n in ("action", "state"))
        return cls(np.asarray(values["lengths"], np.int32), action, state, values["num_skipped"])


class RunningStatistics:
    """Mean, spread, range and quantiles of rows that come in pieces, in bounded memory."""

    def __init__(self, max_rows: int = MAX_ROWS):
        self._max_rows = max_rows
        self._stride, self._kept, self._pieces = 1, 0, []
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._min, self._max = np.inf, -np.inf

    def add(self, x_BM: np.ndarray) -> None:
        """Adds finite rows float[B, M]."""
        x_BM = np.asarray(x_BM, np.float64)
        if not len(x_BM):
            return
        first = -self._count % self._stride
        self._keep(x_BM[first :: self._stride].astype(np.float32))
        # Chan's update: sums of squares about the mean, without cancellation.
        total = self._count + len(x_BM)
        mean, shift = x_BM.mean(0), x_BM.mean(0) - self._mean
        self._squares = (
            self._squares + ((x_BM - mean) ** 2).sum(0) + shift**2 * self._count * len(x_BM) / total
        )
        self._mean = self._mean + shift * len(x_BM) / total
        self._count = total
        self._min, self._max = np.minimum(self._min, x_BM.min(0)), np.maximum(self._max, x_BM.max(0))

    def result(self) -> ArrayStatistics | None:
        """Statistics of everything added, None if nothing was."""
        if not self._count:
            return None
        q01, q99 = np.quantile(np.concatenate(self._pieces).astype(np.float64), [0.01, 0.99], axis=0)
        std = np.sqrt(self._squares / self._count)
        return ArrayStatistics(self._mean, std, q01, q99, self._min, self._max, self._count)

    def _keep(self, rows_BM):
        self._pieces.append(rows_BM)
        self._kept += len(rows_BM)
        while self._kept > self._max_rows:
            self._pieces = [np.concatenate(self._pieces)[::2]]
            self._stride, self._kept = self._stride * 2, len(self._pieces[0])


def split_statistics(split: RldsSplit, cache_dir: str | None = None) -> SplitStatistics:
    """Statistics of a split, from the cache if its content is the same.

    Args:
      split: what to read.
      cache_dir: see `cache.cache_path`.

    Raises:
      RecordError: a damaged episode, or a NaN or Inf in one (with on_corrupt="strict").
      DatasetError: too many damaged episodes (with "skip").
    """
    values = _cached(split, f"statistics-{split.on_corrupt}", cache_dir, lambda: _measured(split).to_dict())
    return SplitStatistics.from_dict(values)


def action_statistics(split: RldsSplit, seen_E: np.ndarray, cache_dir: str | None = None) -> ArrayStatistics:
    """Statistics of the oriented actions of those episodes, bool[E], of a split with actions."""

    def measure():
        action = RunningStatistics()
        for number in np.flatnonzero(seen_E):
            action.add(oriented(split.episode(int(number)).actions, split.spec.action))
        return action.result().to_dict()

    kind = f"actions-{hashlib.sha256(seen_E.tobytes()).hexdigest()[:16]}"
    return ArrayStatistics.from_dict(_cached(split, kind, cache_dir, measure))


def _measured(split):
    lengths = np.zeros(split.num_episodes, np.int32)
    action, state = RunningStatistics(), RunningStatistics()
    num_read = 0
    for episode in split.episodes():
        num_read += 1
        lengths[episode.index] = episode.num_steps
        if episode.actions is not None:
            action.add(oriented(episode.actions, split.spec.action))
        if episode.states is not None:
            state.add(episode.states)
    return SplitStatistics(lengths, action.result(), state.result(), split.num_episodes - num_read)


def depth_statistics(
    split: RldsSplit, lengths: np.ndarray, camera: str = "primary", cache_dir: str | None = None
) -> tuple[float, float]:
    """Mean and standard deviation of log depth (log m) over the valid pixels.

    Read from at most `MAX_DEPTH_FRAMES` frames, evenly spaced over all steps of
    the split.

    Args:
      split: what to read; its camera has depth.
      lengths: int32[E] of `split_statistics`.
      camera: role of the camera.
      cache_dir: see `cache.cache_path`.

    Raises:
      StatisticsError: no valid depth value in the sample.
    """

    def measure():
        return dict(zip(("center", "scale"), _log_depth(split, lengths, camera), strict=True))

    values = _cached(split, f"depth-{camera}", cache_dir, measure)
    return values["center"], values["scale"]


def _log_depth(split, lengths, camera):
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    values = []
    for flat in np.unique(np.linspace(0, total - 1, min(total, MAX_DEPTH_FRAMES)).round().astype(np.int64)):
        index = int(np.searchsorted(ends, flat, side="right"))
        try:
            depth_HW = split.episode(index).depth(int(flat - ends[index] + lengths[index]), camera)
        except RecordError:
            if split.on_corrupt == "strict":
                raise
            continue
        values.append(_valid_metres(depth_HW, split.spec.camera(camera)))
    metres = np.concatenate(values) if values else np.zeros(0)
    if not len(metres):
        raise StatisticsError(
            f"dataset {split.name!r}, split {split.split!r}: no valid depth in {len(values)} sampled "
            f"frames of camera {camera!r}; expected values in (0, {split.spec.camera(camera).depth_max_m}] m"
        )
    log_depth = np.log(metres.astype(np.float64))
    # A flat scene has no spread; then depth is only centred.
    return float(log_depth.mean()), float(log_depth.std()) if log_depth.std() > 1e-6 else 1.0


def _valid_metres(depth_HW, camera):
    depth_m, valid = prepare_depth(depth_HW, camera, Preprocessing(min(depth_HW.shape)))
    return depth_m[valid]


def _cached(split, kind: str, cache_dir: str | None, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    name = re.sub(r"[^\w-]+", "_", split.split)
    place = cache.cache_path(split.directory, f"{name}-{kind}.json", cache_dir)
    content = json.dumps([_LAYOUT, split.fingerprint, to_dict(split.spec)], sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()
    try:
        stored = json.loads(place.read_text())
        if stored.get("key") == key:
            return stored["values"]
    except (OSError, ValueError, AttributeError, KeyError):
        pass
    values = measure()
    try:
        cache.write_atomically(place, json.dumps({"key": key, "values": values}).encode())
    except OSError:
        # A cache that cannot be written costs time at the next start, nothing else.
        pass
    return values
