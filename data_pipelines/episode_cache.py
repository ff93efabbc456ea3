"""Episodes and decoded frames that are kept in memory within a budget, so that windows share the work.

An episode is read, decompressed and parsed once for all of its windows, and a
frame decoded once, as long as they fit. What is kept never changes a batch.
Where not all fit, that kind gives way whose bytes save less processor time, as
measured while reading (a compressed record costs much, one that is only read
little), and of each kind the least recently used.
"""

from __future__ import annotations

import threading
import time
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
    """Reads episodes and makes frames, and keeps them; safe to use from threads.

    Attributes:
      hits: how often something was found that was kept.
      misses: how often it had to be read or made.
    """

    def __init__(self, budget: int = 0):
        """Takes the bytes that may be kept; 0 keeps nothing."""
        self._budget, self._lock = budget, threading.Lock()
        self._episodes, self._frames = _Shelf(), _Shelf()
        self._num_bytes = self.hits = self.misses = self._largest = self._reading = 0
        # Frames of an episode, for how often one of them is asked for.
        self._steps, self._kinds = 0, set()

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
            self._episodes.items.clear()
            self._frames.items.clear()
            self._num_bytes = 0

    def episode(self, split: EpisodeSplit, number: int) -> AnyEpisode:
        """An episode of a split; errors as `EpisodeSplit.episode`."""
        return self._found(self._episodes, (split.name, number), lambda: split.episode(number))

    def frame(
        self,
        split: EpisodeSplit,
        episode: AnyEpisode,
        step: int,
        kind: str,
        make: Callable[[], np.ndarray],
    ) -> np.ndarray:
        """What `make` makes of a step, an array of its own that nobody writes to; its errors.

        Args:
          split: the dataset.
          episode: one of its episodes.
          step: of that.
          kind: what is made: the same kind of a step is always the same.
          make: makes it.
        """
        self._kinds.add((split.name, kind))
        return self._found(self._frames, (split.name, episode.index, step, kind), make)

    def _found(self, shelf: _Shelf, key: Hashable, read: Callable[[], Any]) -> Any:
        with self._lock:
            shelf.lookups += 1
            if key in shelf.items:
                shelf.items.move_to_end(key)
                self.hits += 1
                return shelf.items[key][0]
            self.misses += 1
        begin = time.thread_time()
        value = read()
        seconds = time.thread_time() - begin
        size = value.nbytes if isinstance(value, np.ndarray) else value.num_bytes
        with self._lock:
            shelf.num_read, shelf.seconds, shelf.bytes = (
                shelf.num_read + 1,
                shelf.seconds + seconds,
                shelf.bytes + size,
            )
            if shelf is self._episodes:
                self._largest = max(self._largest, size)
                self._steps += value.num_steps
            if key not in shelf.items and size <= self._room():
                shelf.items[key] = value, size
                self._num_bytes += size
            self._shrink()
        return value

    def _room(self):
        # A thread holds an episode twice while it parses it: the record, and what is made of it.
        return self._budget - 2 * self._reading * self._largest

    def _shrink(self):
        room = max(self._room(), 0)
        while self._num_bytes > room:
            first, other = self._episodes.items, self._frames.items
            if not self._frames_save_more():
                first, other = other, first
            _, (_, size) = (first or other).popitem(last=False)
            self._num_bytes -= size

    def _frames_save_more(self):
        """Whether a byte of frames saves more time than one of episodes, by its cost and its use."""
        episodes, frames = self._episodes, self._frames
        if not (episodes.bytes and frames.bytes):
            return False
        per_episode = max(1.0, self._steps / episodes.num_read * len(self._kinds))
        return frames.saved() / per_episode > episodes.saved()


class _Shelf:
    """What is kept of one kind, the least recently used first, and what reading it has cost."""

    def __init__(self):
        self.items: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()
        self.lookups = self.num_read = self.bytes = 0
        self.seconds = 0.0

    def saved(self) -> float:
        """Seconds saved by a byte, times how often the kind is asked for."""
        return self.seconds / self.bytes * self.lookups


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
