"""One dataset of a mixture, ready to be read: what of it is read, and its statistics."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines.split import EpisodeSplit
from data_pipelines.statistics import action_statistics, depth_statistics, split_statistics
from data_pipelines.stored_codes import StoredCodes
from data_pipelines.stored_tokens import StoredTokens
from data_pipelines.stream_settings import StreamSettings
from data_pipelines.trajectory import history_steps, keyframe_steps, window_counts
from farsighted_jax.core.normalization import ArrayStatistics
from farsighted_jax.core.spec import CameraSpec


@dataclasses.dataclass(frozen=True)
class Source:
    """One dataset of a mixture, ready to be read.

    Attributes:
      split: its episodes.
      camera: the camera of the clips.
      steps: t keyframes in frames for each of `data.offset_scales`, see `trajectory.keyframe_steps`.
      lengths: int32[E] steps of each episode.
      windows: int64[E] windows of each episode.
      seen: bool[E] whose actions are seen.
      action: statistics of its actions, or None without actions.
      state: statistics of its proprioception, or None without it.
      depth: (center, scale) of its log depth, for every camera, or None if no depth is read.
      history: R steps before frame 0, the oldest first, 0 the last.
      cameras: P cameras of the history, `camera` first; None for one that it lacks; () without history.
      codes: its labels, or None.
      tokens: of its frames, or None.
    """

    split: EpisodeSplit
    camera: CameraSpec
    steps: tuple[tuple[int, ...], ...]
    lengths: np.ndarray
    windows: np.ndarray
    seen: np.ndarray
    action: ArrayStatistics | None
    state: ArrayStatistics | None
    depth: tuple[float, float] | None
    history: tuple[int, ...]
    cameras: tuple[CameraSpec | None, ...]
    codes: StoredCodes | None
    tokens: StoredTokens | None


def open_source(
    split: EpisodeSplit,
    settings: StreamSettings,
    train: bool,
    with_depth: bool,
    given: Mapping[str, Any] | None = None,
) -> tuple[Source, dict[str, Any]]:
    """Finds out all that is to be known before images are read.

    Statistics of actions are of those that are seen, so that hidden ones do not
    decide even by their range.

    Args:
      split: the dataset's episodes.
      settings: of the stream.
      train: whether it is for training: then the gaps are drawn and actions may be hidden.
      with_depth: whether batches have depth.
      given: statistics that replace the split's own.

    Returns:
      The source, and its statistics for JSON.

    Raises:
      DatasetError, RecordError, KeyframeError, SpecError: naming the dataset.
      LabelError, ImageFeatureError: stored codes or tokens that are not those of the dataset.
    """
    spec, cache_dir = split.spec, settings.cache_dir or None
    camera = spec.camera(settings.camera)
    scaled = settings.scaled_offsets_of(split.name, train)
    steps = tuple(keyframe_steps(spec.hz, offsets_s, split.name) for offsets_s in scaled)
    found = split_statistics(split, cache_dir)
    # What starts a window must leave room for its largest scale.
    last = max(steps)
    windows = window_counts(found.lengths, last[-1:] if settings.whole_windows else last)
    seen = seen_episodes(split, windows, settings.action_fraction if train else 1.0)
    if given is None:
        given = _statistics(split, found, seen, camera if with_depth else None, cache_dir)
    statistics = {name: given[name] for name in ("action", "state", "depth")} | {
        "num_episodes": len(found.lengths),
        "num_steps": int(found.lengths.sum()),
        "num_skipped": found.num_skipped,
        "skipped": dict(found.skipped),
    }
    roles = {each.name: each for each in spec.cameras}
    source = Source(
        split=split,
        camera=camera,
        steps=steps,
        lengths=found.lengths,
        windows=windows,
        seen=seen,
        action=given["action"] and ArrayStatistics.from_dict(given["action"]),
        state=given["state"] and ArrayStatistics.from_dict(given["state"]),
        depth=tuple(given["depth"]) if with_depth and given["depth"] else None,
        history=history_steps(spec.hz, settings.history_s, split.name),
        cameras=tuple(roles.get(role) for role in settings.cameras),
        codes=StoredCodes(settings.codes, split, camera.name, steps[0]) if settings.codes else None,
        tokens=_tokens(split, settings, train, found.lengths, camera),
    )
    return source, statistics


def seen_episodes(split: EpisodeSplit, windows_E: np.ndarray, fraction: float) -> np.ndarray:
    """Whose actions are seen where only a share of them is, bool[E].

    A hash of dataset and episode number puts the episodes in an order, whose
    beginning is taken: a larger share holds every smaller one, and 0 is one
    episode. Those without a window do not count.
    """
    if fraction == 1:
        return np.ones(len(windows_E), bool)

    def rank(number):
        return hashlib.sha256(f"{split.name}/{split.first_episode + number}".encode()).digest()

    order = sorted(np.flatnonzero(windows_E), key=rank)
    seen = np.zeros(len(windows_E), bool)
    seen[order[: max(1, round(fraction * len(order)))]] = True
    return seen


def _tokens(split, settings, train, lengths, camera):
    if not settings.image_features:
        return None
    preprocessing = settings.preprocessing(train)
    return StoredTokens(settings.image_features, split, lengths, camera.name, preprocessing)


def _statistics(split, found, seen, depth_camera, cache_dir):
    depth, action = None, found.action
    if depth_camera is not None and depth_camera.depth_key:
        depth = depth_statistics(split, found.lengths, depth_camera.name, cache_dir)
    if action is not None and seen.any() and not seen.all():
        action = action_statistics(split, seen, cache_dir)
    return {
        "action": action and action.to_dict(),
        "state": found.state and found.state.to_dict(),
        "depth": depth and list(depth),
    }
