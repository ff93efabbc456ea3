"""Episodes and decoded frames that are kept in memory within a budget, so that windows share the work.

An episode is read, decompressed and parsed once for all of its windows, and a
frame decoded once, as long as they fit. What is kept never changes a batch: a
frame is kept as it is stored, before it is resized and augmented. Where not all
fit, frames give way first, since an episode of the same bytes serves more
windows, and of each kind the least recently used.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np

from data_pipelines.split import AnyEpisode, EpisodeSplit
from farsighted_jax.core.config import ConfigError

MB = 2**20
# Batches in the hands of who reads them: a step's own, and two on their way to the device.
IN_USE = 3


class EpisodeCache:
    """Reads episodes and their frames, and keeps them; safe to use from threads.

    Attributes:
      hits: how often something was found that was kept.
      misses: how often it had to be read or decoded.
    """

    def __init__(self, budget: int = 0):
        """Takes the bytes that may be kept; 0 keeps nothing."""
        self._budget, self._lock = budget, threading.Lock()
        self._episodes: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._frames: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self._num_bytes = self.hits = self.misses = self._largest = self._reading = 0

    @property
    def num_bytes(self) -> int:
        """Bytes of what is kept now."""
        return self._num_bytes

    def set_budget(self, budget: int, readers: int) -> None:
        """Changes the bytes that may be kept, and leaves room in them for what `readers` threads read."""
        with self._lock:
            self._budget, self._reading = budget, readers
            self._shrink()

    def clear(self) -> None:
        """Forgets everything."""
        with self._lock:
            self._episodes.clear()
            self._frames.clear()
            self._num_bytes = 0

    def episode(self, split: EpisodeSplit, number: int) -> AnyEpisode:
        """An episode of a split; errors as `EpisodeSplit.episode`."""
        return self._found(self._episodes, (split.name, number), lambda: split.episode(number))

    def rgb(self, split: EpisodeSplit, episode: AnyEpisode, step: int, camera: str) -> np.ndarray:
        """A stored image, uint8[H, W, 3], not to be written to; errors as `AnyEpisode.rgb`."""
        key = (split.name, episode.index, step, camera, "rgb")
        return self._found(self._frames, key, lambda: episode.rgb(step, camera))

    def depth(self, split: EpisodeSplit, episode: AnyEpisode, step: int, camera: str) -> np.ndarray:
        """A stored depth map, float32[H, W], not to be written to; errors as `AnyEpisode.depth`."""
        key = (split.name, episode.index, step, camera, "depth")
        # A view would hold the depth of the whole episode.
        return self._found(self._frames, key, lambda: episode.depth(step, camera).copy())

    def _found(self, shelf: OrderedDict, key: Hashable, read: Callable[[], Any]) -> Any:
        with self._lock:
            if key in shelf:
                shelf.move_to_end(key)
                self.hits += 1
                return shelf[key][0]
            self.misses += 1
        value = read()
        size = value.nbytes if isinstance(value, np.ndarray) else value.num_bytes
        with self._lock:
            if shelf is self._episodes:
                self._largest = max(self._largest, size)
            if key not in shelf and size <= self._room():
                shelf[key] = value, size
                self._num_bytes += size
            self._shrink()
        return value

    def _room(self):
        # A thread holds an episode twice while it parses it: the record, and what is made of it.
        return self._budget - 2 * self._reading * self._largest

    def _shrink(self):
        room = max(self._room(), 0)
        while self._num_bytes > room:
            _, (_, size) = (self._frames or self._episodes).popitem(last=False)
            self._num_bytes -= size


def plan(memory_mb: float, batch_bytes: int, prefetch: int) -> tuple[int, int]:
    """Divides a budget between batches that are read ahead and what is kept of the data.

    Args:
      memory_mb: the budget in MB (2**20 bytes).
      batch_bytes: of this host's part of one batch.
      prefetch: batches to read ahead, if they fit.

    Returns:
      Batches read ahead, at least one; bytes left for an `EpisodeCache`.

    Raises:
      ConfigError: not even one batch fits beside those in use.
    """
    budget = int(memory_mb * MB)
    fitting = budget // batch_bytes - IN_USE
    if fitting < 1:
        raise ConfigError(
            f"configuration key 'data.memory_mb' is {memory_mb:g}, but one batch ahead of {IN_USE} in use "
            f"takes {(IN_USE + 1) * batch_bytes / MB:.0f} MB; expected more, or a smaller batch_size"
        )
    prefetch = min(prefetch, fitting)
    return prefetch, budget - (prefetch + IN_USE) * batch_bytes
