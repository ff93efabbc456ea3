"""Labels of `farsighted label` as fields of a batch: aligned with a split, and of one model."""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_pipelines.code_dataset import CodeReader, LabelError
from data_pipelines.dataset_info import split_range
from data_pipelines.errors import DatasetError
from data_pipelines.split import EpisodeSplit
from farsighted_jax.core.config import difference

# Episodes whose codes are kept: a code is a few bytes, parsing an episode's takes longer than its images.
_KEPT = 1024


class CodeFormat(NamedTuple):
    """What tells codes of one model from those of another.

    Attributes:
      num_codes: size V of the codebook.
      num_slots: codes Z a transition.
      digest: of the weights of the model that labelled.
    """

    num_codes: int
    num_slots: int
    digest: str


class StoredCodes:
    """Codes of the episodes of an open split or slice; safe to use from threads.

    Attributes:
      labels: what was labelled by which model, see `code_dataset.CodeWriter`.
      format: see `CodeFormat`.
    """

    def __init__(
        self, directory: str | os.PathLike, split: EpisodeSplit, camera: str, steps: tuple[int, ...]
    ):
        """Opens the labels of a split and compares them with it.

        Args:
          directory: folder of side datasets.
          split: whose codes they must be; of a slice, the whole split's.
          camera: role of the camera that must have been labelled.
          steps: t keyframes in frames that must have been labelled.

        Raises:
          LabelError: there are none, they lack episodes, or they are of other data or
            keyframes; the message lists each difference and names the command.
        """
        base, _ = split_range(split.split)
        command = f"run `farsighted label --mixture {split.name} --split {base} --out {os.fspath(directory)}`"
        try:
            reader = CodeReader(directory, split.name, base)
        except DatasetError as error:
            raise LabelError(f"no codes of {split.name}:{base}: {error}; {command}") from error
        place, needed = (
            f"codes of {split.name}:{base} in {directory}",
            split.first_episode + split.num_episodes,
        )
        if reader.num_episodes < needed:
            raise LabelError(f"{place}: {reader.num_episodes} episodes, expected {needed}; {command}")
        self.labels = reader.labels
        expected = {
            "keyframe_steps": list(steps),
            "source": {"camera": camera, "fingerprint": split.whole_fingerprint},
        }
        try:
            found = {
                "keyframe_steps": self.labels["keyframe_steps"],
                "source": {key: self.labels["source"][key] for key in expected["source"]},
            }
            self.format = CodeFormat(
                self.labels["codebook_size"], self.labels["num_slots"], self.labels["model"]["digest"]
            )
        except (KeyError, TypeError) as error:
            raise LabelError(f"{place}: the labels do not say what they are: {error!r}; {command}") from error
        changes = difference(found, expected)
        if changes:
            raise LabelError(f"{place} are not those of the stream ({'; '.join(changes)}); {command}")
        self._first = split.first_episode
        self._episode = functools.lru_cache(maxsize=_KEPT)(reader.episode)

    def write(self, number: int, start: int, code_tZ: np.ndarray, valid_t: np.ndarray) -> None:
        """Writes the codes of one window.

        Args:
          number: of the episode in its split or slice.
          start: step of frame 0.
          code_tZ: int32[t, Z] of zeros, written in place.
          valid_t: bool[t], which frames k exist; False is put where there is no code.

        Raises:
          RecordError: the record is damaged; it names the file.
        """
        stored = self._episode(self._first + number)
        if start < len(stored.valid_Lt):
            valid_t &= stored.valid_Lt[start]
            code_tZ[valid_t] = stored.code_LtZ[start][valid_t]
        else:
            # An episode that could not be read when it was labelled has no steps.
            valid_t[...] = False


def common_format(codes: Mapping[str, StoredCodes]) -> CodeFormat:
    """The format of all datasets' codes; LabelError naming two that were labelled by different models."""
    (first, stored), *others = codes.items()
    for name, other in others:
        if other.format != stored.format:
            raise LabelError(
                f"codes of {first!r} are of {stored.format}, those of {name!r} of {other.format}; "
                "label all datasets of a mixture with one checkpoint"
            )
    return stored.format
