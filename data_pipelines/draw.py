"""What is drawn for one sample, by the sample's own generator: the same for any reader, host or resume."""

from __future__ import annotations

import zlib
from typing import NamedTuple

import numpy as np

from data_pipelines.frame import NO_AUGMENTATION, Augmentation, Preprocessing, draw_augmentation
from data_pipelines.stream_settings import StreamSettings

# Tell the draws of a sample apart, so that an option that draws changes no other.
_SCALE, _TEXT, _GOAL = (zlib.crc32(name) for name in (b"offset_scales", b"text", b"goal"))


class Draw(NamedTuple):
    """The choices of one sample; by default those of evaluation.

    Attributes:
      augmentation: of its images.
      scale: which of its source's keyframes, an index into `Source.steps`.
      text: which of the ways to say it, as a share of them all within [0, 1).
      told: whether it has its instruction.
      goal: where between frame 0, excluded, and the last step that may be one, at 1, its goal lies.
    """

    augmentation: Augmentation = NO_AUGMENTATION
    scale: int = 0
    text: float = 0.0
    told: bool = True
    goal: float = 1.0


NO_DRAW = Draw()


def draw_sample(
    settings: StreamSettings, preprocessing: Preprocessing, seed: int, sample: int, train: bool
) -> Draw:
    """The draw of a sample of the endless row.

    Args:
      settings: of the stream.
      preprocessing: its limits of the augmentation.
      seed: of the stream.
      sample: number of the sample.
      train: whether the stream is for training.
    """
    draws = {}
    if train and settings.augment:
        draws["augmentation"] = draw_augmentation(preprocessing, np.random.default_rng([seed, sample]))
    if train and len(settings.offset_scales) > 1:
        rng = np.random.default_rng([seed, sample, _SCALE])
        draws["scale"] = int(rng.integers(len(settings.offset_scales)))
    if train and (settings.text_choice == "any" or settings.text_dropout):
        rng = np.random.default_rng([seed, sample, _TEXT])
        share, dropped = rng.random(), rng.random() < settings.text_dropout
        draws |= {"text": share if settings.text_choice == "any" else 0.0, "told": not dropped}
    if train and settings.goal == "uniform":
        draws["goal"] = np.random.default_rng([seed, sample, _GOAL]).random()
    return Draw(**draws)
