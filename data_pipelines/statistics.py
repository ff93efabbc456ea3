"""Statistics of a split: one pass over actions and states, without images, kept in a cache.

The pass also yields the episode lengths that windows are counted from. Blocks of
episodes are read by threads and merged in their order, so that the result does
not depend on how many there are. Depth constants need images; they come from a
bounded, evenly spaced sample of frames.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from data_pipelines import cache
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.frame import Preprocessing, prepare_depth
from data_pipelines.prefetch import read_ahead
from data_pipelines.running_statistics import RunningStatistics
from data_pipelines.split import EpisodeSplit
from data_pipelines.trajectory import oriented
from farsighted_jax.core.normalization import ArrayStatistics
from farsighted_jax.core.spec import ActionSpec, to_dict

MAX_DEPTH_FRAMES = 64

_LAYOUT = 2
_BLOCK = 32
_READERS = 4
_TIMEOUT_S = 600.0


class StatisticsError(DatasetError):
    """A split that no statistics can be made of; the message names it."""


@dataclasses.dataclass(frozen=True)
class SplitStatistics:
    """What the image-free pass finds.

    Attributes:
      lengths: int32[E] steps of each episode; 0 for a damaged one that was skipped.
      actions: of the oriented actions (see `trajectory.oriented`), or None without actions.
      states: of the proprioception, or None without it.
      skipped: cause (`RecordError.cause`) -> episodes that were left out for it.
    """

    lengths: np.ndarray
    actions: RunningStatistics | None
    states: RunningStatistics | None
    skipped: Mapping[str, int] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def action(self) -> ArrayStatistics | None:
        """Mean, spread, range and quantiles of each action dimension."""
        return self.actions and self.actions.result()

    @functools.cached_property
    def state(self) -> ArrayStatistics | None:
        """The same of the proprioception."""
        return self.states and self.states.result()

    @property
    def num_skipped(self) -> int:
        """Episodes left out because they are damaged or hold a NaN or Inf."""
        return sum(self.skipped.values())

    def groups(self, spec: ActionSpec) -> dict[str, ArrayStatistics]:
        """Statistics of the action's groups ("translation", "gripper", ...), each as of one dimension."""
        if self.actions is None:
            return {}
        names = dict.fromkeys(spec.groups)
        return {g: self.actions.pooled([i for i, of in enumerate(spec.groups) if of == g]) for g in names}

    @classmethod
    def merged(cls, parts: Sequence[SplitStatistics]) -> SplitStatistics:
        """Statistics of several splits, or datasets with the same action and state, after each other."""
        skipped: Counter[str] = Counter()
        for part in parts:
            skipped.update(part.skipped)
        arrays = (_merged([getattr(part, name) for part in parts]) for name in ("actions", "states"))
        return cls(np.concatenate([part.lengths for part in parts]), *arrays, dict(skipped))


def split_statistics(split: EpisodeSplit, cache_dir: str | None = None) -> SplitStatistics:
    """Statistics of a split, from the cache if its content is the same.

    Args:
      split: what to read.
      cache_dir: see `cache.cache_path`.

    Raises:
      RecordError: a damaged episode, or a NaN or Inf in one (with on_corrupt="strict").
      DatasetError: too many damaged episodes (with "skip").
    """
    arrays = _cached(split, f"statistics-{split.on_corrupt}", cache_dir, lambda: _packed(_measured(split)))
    return _unpacked(arrays)


def action_statistics(
    split: EpisodeSplit, seen_E: np.ndarray, cache_dir: str | None = None
) -> ArrayStatistics:
    """Statistics of the oriented actions of those episodes, bool[E], of a split with actions."""

    def measure():
        measured = _measured(split, np.flatnonzero(seen_E).tolist())
        return {name: np.asarray(value) for name, value in dataclasses.asdict(measured.action).items()}

    kind = f"actions-{hashlib.sha256(seen_E.tobytes()).hexdigest()[:16]}"
    return ArrayStatistics.from_dict(_cached(split, kind, cache_dir, measure))


def _measured(split, numbers: Sequence[int] | None = None) -> SplitStatistics:
    numbers = range(split.num_episodes) if numbers is None else numbers
    blocks = [(first, numbers[first : first + _BLOCK]) for first in range(0, len(numbers), _BLOCK)]
    ahead = read_ahead(
        lambda block: _block(split, *block),
        blocks,
        readers=_READERS,
        prefetch=2 * _READERS,
        timeout_s=_TIMEOUT_S,
    )
    lengths, skipped = np.zeros(split.num_episodes, np.int32), Counter()
    running = RunningStatistics(), RunningStatistics()
    for _, (found, causes, parts) in ahead:
        for number, length in found.items():
            lengths[number] = length
        skipped.update(causes)
        for whole, part in zip(running, parts, strict=True):
            whole.merge(part)
    return SplitStatistics(lengths, *(whole if whole.count else None for whole in running), dict(skipped))


def _block(split, seed, numbers):
    """Lengths of the readable episodes, why others were skipped, and statistics of actions and states."""
    lengths, skipped = {}, Counter()
    actions, states = RunningStatistics([seed, 0]), RunningStatistics([seed, 1])
    for number in numbers:
        try:
            episode = split.episode(number)
        except RecordError as error:
            if split.on_corrupt == "strict":
                raise
            skipped[error.cause] += 1
            continue
        lengths[number] = episode.num_steps
        if episode.actions is not None:
            actions.add(oriented(episode.actions, split.spec.action))
        if episode.states is not None:
            states.add(episode.states)
    return lengths, skipped, (actions, states)


def _merged(parts):
    """The parts that have rows as one, or None."""
    whole = RunningStatistics()
    for part in filter(None, parts):
        whole.merge(part)
    return whole if whole.count else None


def _packed(statistics):
    arrays = {"lengths": statistics.lengths}
    arrays |= {f"skipped/{cause}": np.asarray(number) for cause, number in statistics.skipped.items()}
    for name in ("actions", "states"):
        if running := getattr(statistics, name):
            arrays |= {f"{name}/{key}": array for key, array in running.to_arrays().items()}
    return arrays


def _unpacked(arrays):
    parts: dict[str, dict[str, np.ndarray]] = {"actions": {}, "states": {}, "skipped": {}}
    for key, array in arrays.items():
        part, _, name = key.partition("/")
        if name:
            parts[part][name] = array
    running = (parts[n] and RunningStatistics.from_arrays(parts[n]) or None for n in ("actions", "states"))
    skipped = {cause: int(number) for cause, number in parts["skipped"].items()}
    return SplitStatistics(arrays["lengths"], *running, skipped)


def depth_statistics(
    split: EpisodeSplit, lengths: np.ndarray, camera: str = "primary", cache_dir: str | None = None
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
        return dict(
            zip(("center", "scale"), map(np.asarray, _log_depth(split, lengths, camera)), strict=True)
        )

    arrays = _cached(split, f"depth-{camera}", cache_dir, measure)
    return float(arrays["center"]), float(arrays["scale"])


def _log_depth(split, lengths, camera):
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0

    def valid_metres(flat):
        index = int(np.searchsorted(ends, flat, side="right"))
        try:
            depth_HW = split.episode(index).depth(int(flat - ends[index] + lengths[index]), camera)
        except RecordError:
            if split.on_corrupt == "strict":
                raise
            return None
        return _valid_metres(depth_HW, split.spec.camera(camera))

    chosen = np.unique(np.linspace(0, total - 1, min(total, MAX_DEPTH_FRAMES)).round().astype(np.int64))
    ahead = read_ahead(valid_metres, chosen, readers=_READERS, prefetch=2 * _READERS, timeout_s=_TIMEOUT_S)
    values = [metres for _, metres in ahead if metres is not None]
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


def _cached(
    split, kind: str, cache_dir: str | None, measure: Callable[[], dict[str, np.ndarray]]
) -> dict[str, np.ndarray]:
    name = re.sub(r"[^\w-]+", "_", split.split)
    place = cache.cache_path(split.directory, f"{name}-{kind}.npz", cache_dir)
    content = json.dumps([_LAYOUT, split.fingerprint, to_dict(split.spec)], sort_keys=True)
    key = hashlib.sha256(content.encode()).hexdigest()
    stored = cache.read_arrays(place)
    if stored is not None and str(stored.pop("key", "")) == key:
        return stored
    values = measure()
    try:
        cache.write_arrays(place, {"key": np.asarray(key), **values})
    except OSError:
        # A cache that cannot be written costs time at the next start, nothing else.
        pass
    return values
