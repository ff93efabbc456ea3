"""Every frame of some episodes, each once and in order, as batches without augmentation have it."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from data_pipelines.errors import RecordError
from data_pipelines.frame import FrameError, Preprocessing, prepare_rgb
from data_pipelines.prefetch import read_ahead
from data_pipelines.split import EpisodeSplit

# Frames that a thread decodes at once, and so what it holds, however long an episode is.
_PIECE = 64


class Frame(NamedTuple):
    """One frame.

    Attributes:
      episode: its number in its split.
      step: its step of the episode.
      rgb_HWC: uint8[H, W, 3], or None with on_corrupt="skip" where it cannot be read.
    """

    episode: int
    step: int
    rgb_HWC: np.ndarray | None


def every_frame(
    split: EpisodeSplit,
    lengths: Sequence[int],
    episodes: Sequence[int],
    *,
    camera: str,
    preprocessing: Preprocessing,
    readers: int = 4,
    timeout_s: float = 300.0,
) -> Iterator[Frame]:
    """Decodes ahead by threads, a bounded number of frames.

    Args:
      split: of the episodes.
      lengths: steps of each episode of the split.
      episodes: numbers.
      camera: role of the camera.
      preprocessing: what to do to each image.
      readers: number of threads.
      timeout_s: longest wait for a piece of an episode.

    Raises:
      RecordError: a damaged episode or image, unless the split is opened with on_corrupt="skip".
    """
    view = split.spec.camera(camera)
    episode_of = functools.lru_cache(maxsize=2 * readers)(split.episode)

    def rgb(number, step):
        episode = episode_of(number)
        try:
            image_HWC = episode.rgb(step, camera)
            return prepare_rgb(image_HWC, preprocessing, rotate_180=view.rotate_180)
        except FrameError as error:
            raise episode.error(step, view.rgb_key, str(error)) from error

    def readable_rgb(number, step):
        try:
            return rgb(number, step)
        except RecordError:
            if split.on_corrupt == "strict":
                raise
            return None

    def frames(piece):
        number, steps = piece
        return [Frame(number, step, readable_rgb(number, step)) for step in steps]

    pieces = (
        (number, range(first, min(first + _PIECE, int(lengths[number]))))
        for number in episodes
        for first in range(0, int(lengths[number]), _PIECE)
    )
    for _, found in read_ahead(frames, pieces, readers=readers, prefetch=2 * readers, timeout_s=timeout_s):
        yield from found
