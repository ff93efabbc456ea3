"""Goals in hindsight: a later frame of the same episode, which was reached."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping

import numpy as np

from data_pipelines.draw import Draw
from data_pipelines.episode import Episode
from data_pipelines.errors import RecordError
from data_pipelines.frame_writer import FrameWriter
from data_pipelines.source import Source


def goal_step(start: int, length: int, share: float, most: float = math.inf) -> int:
    """The step that lies at `share` of those after `start`: 0 the next one, 1 the last.

    Args:
      start: step of frame 0, not the last.
      length: steps of the episode.
      share: within [0, 1].
      most: so many steps after `start` are the last one, to the nearest step and at least one; the episode's
        last step if that comes sooner.
    """
    after = max(round(min(length - 1 - start, most)), 1)
    return start + min(math.floor(share * after) + 1, after)


def write_goal(
    batch: Mapping[str, np.ndarray],
    row: int,
    source: Source,
    episode: Episode,
    start: int,
    within_s: float,
    draw: Draw,
    frames: FrameWriter,
) -> Counter[str]:
    """Fills the goal of a row, seen by the camera of the clip and augmented like it.

    Args:
      batch: with "goal_rgb", "goal_time_s" and "goal_valid", written in place.
      row: which row, of zeros.
      source: its dataset.
      episode: its episode.
      start: step of frame 0.
      within_s: longest time from frame 0 to the goal.
      draw: of the sample.
      frames: makes the image.

    Returns:
      Cause (`RecordError.cause`) -> frames that could not be read; such a row has no goal.

    Raises:
      RecordError: the frame cannot be read (on_corrupt="strict").
    """
    hz = source.split.spec.hz
    step = goal_step(start, episode.num_steps, draw.goal, within_s * hz)
    out = {"rgb": batch["goal_rgb"][row]}
    try:
        frames.write(out, source, episode, step, source.camera, draw.augmentation)
    except RecordError as error:
        if source.split.on_corrupt == "strict":
            raise
        out["rgb"][...] = 0
        return Counter({error.cause: 1})
    batch["goal_valid"][row] = True
    batch["goal_time_s"][row] = (step - start) / hz
    return Counter()
