"""The episodes of a split, by number, whatever they are stored as."""

from __future__ import annotations

import abc
import hashlib
import json
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from data_pipelines.errors import DatasetError, RecordError
from farsighted_jax.core.spec import DatasetSpec

MAX_SKIPPED = 0.1
POLICIES = ("strict", "skip")


class AnyEpisode(Protocol):
    """One episode: numbers at once, images only where asked for; `episode.Episode` says more.

    Attributes:
      index: number of the episode in its split.
      num_steps: steps L, may be 0.
      actions: float32[L, M], or None for action-free video.
      states: float32[L, I], or None.
      instruction: of the first step, b"" if there is none.
      instructions: ways to say it, `instruction` first; may be ().
      timestamps: float64[L] seconds of each step where the dataset says them, or None.
      metadata: the episode's own features by key.
      num_bytes: memory that it holds, images not decoded.
    """

    index: int
    num_steps: int
    actions: np.ndarray | None
    states: np.ndarray | None
    instruction: bytes
    instructions: tuple[bytes, ...]
    timestamps: np.ndarray | None
    metadata: dict[str, Any]
    num_bytes: int

    def rgb(self, step: int, camera: str = "primary") -> np.ndarray:
        """The image of a step as it is stored, uint8[H, W, 3]; RecordError if it cannot be read."""

    def depth(self, step: int, camera: str = "primary") -> np.ndarray | None:
        """The stored depth map of a step, float32[H, W] in the dataset's unit, or None without depth."""

    def error(self, step: int, key: str, reason: str) -> RecordError:
        """An error that names file, episode, step and key, for what is decoded elsewhere."""


class EpisodeSplit(abc.ABC):
    """The episodes of a split, by number; safe to read from threads.

    Attributes:
      spec: meaning of the features.
      name: dataset name.
      version: of the dataset, e.g. "1.0.0".
      split: split or slice as asked for.
      directory: folder of the dataset's version.
      num_episodes: episodes E, damaged ones included.
      first_episode: number of the first in the whole split, 0 unless this is a slice.
      fingerprint: hex digest over content, specification and slice; independent of
        where the dataset lies.
      whole_fingerprint: the `fingerprint` of the whole split.
      on_corrupt: "strict" or "skip".
      assumed: what of the specification was assumed because the dataset does not say it, or "".
    """

    assumed = ""

    def __init__(
        self,
        *,
        spec: DatasetSpec,
        name: str,
        split: str,
        directory: str,
        version: str,
        episodes: tuple[int, int],
        num_whole: int,
        on_corrupt: str,
        content: Sequence[str],
    ):
        """Takes what the attributes say.

        Args:
          spec: see the attributes.
          name: see the attributes.
          split: see the attributes.
          directory: see the attributes.
          version: see the attributes.
          episodes: first episode and end of the slice.
          num_whole: episodes of the whole split.
          on_corrupt: see the attributes.
          content: digests and texts that change with what the episodes give.

        Raises:
          DatasetError: an unknown policy.
        """
        if on_corrupt not in POLICIES:
            raise DatasetError(f"on_corrupt {on_corrupt!r} is not one of {POLICIES}")
        self.spec, self.name, self.split, self.directory = spec, name, split, directory
        self.version, self.on_corrupt = version, on_corrupt
        self.first_episode, end = episodes
        self.num_episodes = end - self.first_episode
        self.fingerprint = _digest(*content, str(episodes))
        self.whole_fingerprint = _digest(*content, str((0, num_whole)))
        self._skipped: dict[int, str] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self.num_episodes

    @property
    def skipped(self) -> dict[int, str]:
        """Episodes found damaged so far: number -> reason. Empty with on_corrupt="strict"."""
        with self._lock:
            return dict(self._skipped)

    def episode(self, number: int) -> AnyEpisode:
        """Reads episode `number`, checked.

        Raises:
          RecordError: it is damaged, with either policy; with "skip" it is counted too.
          DatasetError: with "skip", more than `MAX_SKIPPED` of the split is damaged.
          IndexError: no such number.
        """
        if not 0 <= number < self.num_episodes:
            raise IndexError(
                f"episode {number} is not within 0..{self.num_episodes - 1} of {self.name}:{self.split}"
            )
        try:
            return self._read(number)
        except RecordError as error:
            self._count(number, error)
            raise

    def episodes(self) -> Iterator[AnyEpisode]:
        """All episodes in order; with "skip" without the damaged ones."""
        for number in range(self.num_episodes):
            try:
                episode = self.episode(number)
            except RecordError:
                if self.on_corrupt == "strict":
                    raise
                continue
            yield episode

    @abc.abstractmethod
    def _read(self, number: int) -> AnyEpisode:
        """Reads an episode of the split or slice."""

    def _count(self, number, error):
        if self.on_corrupt == "strict":
            return
        with self._lock:
            self._skipped[number] = str(error)
            damaged = len(self._skipped)
        if damaged > max(1, MAX_SKIPPED * self.num_episodes):
            raise DatasetError(
                f"dataset {self.name!r}, split {self.split!r}: {damaged} of {self.num_episodes} episodes are "
                f"damaged, more than the {MAX_SKIPPED:.0%} that may be skipped; the last: {error}"
            ) from error


def _digest(*texts):
    return hashlib.sha256(json.dumps(texts).encode()).hexdigest()
