"""Clips of any row of frames (a video, an RLDS episode): keyframes by seconds, one decode a frame.

Labelling and the tools look at many overlapping windows of one row of frames,
where a training batch looks at a few. Each frame is therefore prepared once
and the windows are gathered from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from data_pipelines.errors import DatasetError
from data_pipelines.frame import FrameError, Preprocessing, prepare_depth, prepare_rgb
from data_pipelines.split import EpisodeSplit
from data_pipelines.trajectory import keyframe_steps, keyframe_window
from farsighted_jax.core.normalization import normalize_depth

Batch = dict[str, np.ndarray]


class ClipError(DatasetError):
    """A row of frames gives no clip as asked; the message names it and what is needed."""


class FrameSource(Protocol):
    """Frames at a fixed rate.

    Attributes:
      name: what it is called in messages and results.
      dataset: RLDS dataset it comes from, "" for none.
      hz: frames a second.
      num_frames: L.
    """

    name: str
    dataset: str
    hz: float
    num_frames: int

    def prepared(self, frames: Sequence[int], preprocessing: Preprocessing) -> Batch:
        """Frames at the model's size.

        Args:
          frames: n distinct frame numbers, ascending.
          preprocessing: what to do to each image.

        Returns:
          "rgb" uint8[n, H, W, 3]; where depth is read also "depth" float32[n, H, W, 1]
          normalised log depth and "depth_valid" bool[n, H, W, 1].
        """


class EpisodeFrames:
    """One RLDS episode as a `FrameSource`; `depth_constants` are (center, scale) of its depth, or None."""

    def __init__(
        self,
        split: EpisodeSplit,
        number: int,
        *,
        camera: str = "primary",
        depth: tuple[float, float] | None = None,
    ):
        """Reads the episode's numbers; images only when they are asked for.

        Args:
          split: an open split.
          number: of the episode.
          camera: role of the camera.
          depth: (center, scale) of log depth; without it no depth is read.

        Raises:
          RecordError: the episode is damaged.
          IndexError: no such episode.
        """
        self.name = f"{split.name}:{split.split}:{number}"
        self.dataset, self.hz, self.number = split.name, split.spec.hz, number
        self._camera, self.depth_constants = split.spec.camera(camera), depth
        self._episode = split.episode(number)
        self.num_frames = self._episode.num_steps

    def prepared(self, frames: Sequence[int], preprocessing: Preprocessing) -> Batch:
        """See `FrameSource.prepared`; RecordError names file, step and key of an image that is damaged."""
        size, camera = preprocessing.resolution, self._camera
        batch = {"rgb": np.zeros((len(frames), size, size, 3), np.uint8)}
        if self.depth_constants is not None:
            batch["depth"] = np.zeros((len(frames), size, size, 1), np.float32)
            batch["depth_valid"] = np.zeros((len(frames), size, size, 1), bool)
        for row, step in enumerate(frames):
            key = camera.rgb_key
            try:
                image_HWC = self._episode.rgb(step, camera.name)
                prepare_rgb(image_HWC, preprocessing, rotate_180=camera.rotate_180, out=batch["rgb"][row])
                if self.depth_constants is not None:
                    key = camera.depth_key
                    raw_HW = self._episode.depth(step, camera.name)
                    depth_m, valid = prepare_depth(raw_HW, camera, preprocessing)
                    batch["depth"][row, ..., 0] = normalize_depth(depth_m, valid, *self.depth_constants)
                    batch["depth_valid"][row, ..., 0] = valid
            except FrameError as error:
                raise self._episode.error(step, key, str(error)) from error
        return batch


def clip_steps(source: FrameSource, offsets_s: Sequence[float]) -> tuple[int, ...]:
    """Frames from frame 0 to each keyframe; KeyframeError names the source where its rate cannot tell."""
    return keyframe_steps(source.hz, offsets_s, source.name)


def clip_starts(
    source: FrameSource, offsets_s: Sequence[float], *, every_s: float | None = None, first: int = 0
) -> range:
    """Where complete clips begin, in frames.

    Args:
      source: the frames.
      offsets_s: seconds from frame 0 to each keyframe.
      every_s: seconds between the beginnings of two clips; by default the last
        offset, so that one clip ends where the next begins.
      first: frame at which the first clip begins.

    Returns:
      Starts, at least one.

    Raises:
      ClipError: not one complete clip; names the source, its length and what is needed.
      KeyframeError: the rate cannot tell the keyframes apart.
    """
    steps = clip_steps(source, offsets_s)
    stride = steps[-1] if every_s is None else round(every_s * source.hz)
    if stride < 1:
        raise ClipError(
            f"{source.name}: clips every {every_s:g} s, but a frame at {source.hz:g} Hz lasts "
            f"{1 / source.hz:g} s; expected at least that"
        )
    starts = range(first, source.num_frames - steps[-1], stride)
    if first < 0 or not starts:
        raise ClipError(
            f"{source.name}: {source.num_frames} frames at {source.hz:g} Hz, too short for a clip from frame "
            f"{first} on; offsets {tuple(offsets_s)} s need at least {first + steps[-1] + 1} frames"
        )
    return starts


def clip_batch(
    source: FrameSource,
    starts: Sequence[int],
    offsets_s: Sequence[float],
    preprocessing: Preprocessing,
    blank_depth: tuple[float, float] | None = None,
) -> Batch:
    """The clips that begin at `starts`, one row each, as a batch of `core.batch.FIELDS`.

    Keyframes past the end are masked. `dataset` is 0, `episode` the source's
    number if it has one, `step` the start.

    Args:
      source: the frames.
      starts: B frame numbers within the source.
      offsets_s: seconds from frame 0 to each keyframe.
      preprocessing: what to do to each image.
      blank_depth: (center, scale) of log depth for a source without depth, whose batch
        then has depth of which nothing was measured; None: it has no depth.
    """
    steps = clip_steps(source, offsets_s)
    windows = [keyframe_window(int(start), steps, source.num_frames, source.hz) for start in starts]
    frames_BT = np.stack([window.frames for window in windows])
    valid_BT = np.stack([window.valid for window in windows])
    used = np.unique(frames_BT[valid_BT])
    prepared = source.prepared(used.tolist(), preprocessing)
    place_BT = np.searchsorted(used, np.where(valid_BT, frames_BT, used[0]))
    batch = {name: array[place_BT] for name, array in prepared.items()}
    for array in batch.values():
        array[~valid_BT] = 0
    num = len(windows)
    constants = source.depth_constants if "depth" in batch else blank_depth
    if constants is not None:
        shape, (center, scale) = (*batch["rgb"].shape[:4], 1), constants
        batch.setdefault("depth", np.zeros(shape, np.float32))
        batch.setdefault("depth_valid", np.zeros(shape, bool))
        batch |= {
            "depth_center": np.full(num, center, np.float32),
            "depth_scale": np.full(num, scale, np.float32),
        }
    return batch | {
        "time_s": np.stack([window.time_s for window in windows]),
        "frame_valid": valid_BT,
        "dataset": np.zeros(num, np.int32),
        "episode": np.full(num, getattr(source, "number", 0), np.int32),
        "step": np.asarray(starts, np.int32),
    }
