"""Which window stands in which row of which batch: a pure function of (seed, schedule, step).

The stream is cut into units: groups of `windows_per_episode` windows of one
episode (of one window by default). A mixture tells which dataset a unit comes
from and its position there; each dataset gives its units in shuffled epochs.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

from data_pipelines.errors import DatasetError
from data_pipelines.mixture import Interleave, Schedule, dataset_names

# Below this, one epoch's order is a permutation in memory: grain's index shuffle needs no memory, but walks
# through at least 2**16 places, which takes milliseconds an index for a dataset of a few windows.
SMALL = 2**16


class ShuffledEpochs:
    """The windows of one dataset, in an endless row of epochs, each shuffled anew.

    In an epoch every window comes once. With groups of W > 1, an episode whose
    number of windows is no multiple of W repeats some in its last group (never
    two alike in one group), and an episode with fewer than W windows is left out.
    """

    def __init__(self, counts_E: np.ndarray, windows_per_episode: int, seed: int):
        """Takes int64[E] windows of each episode."""
        self._counts, self._width, self._seed = np.asarray(counts_E, np.int64), windows_per_episode, seed
        groups_E = np.where(self._counts >= windows_per_episode, -(-self._counts // windows_per_episode), 0)
        self._ends = np.cumsum(groups_E)
        self._starts = self._ends - groups_E
        self.num_units = int(groups_E.sum())
        self.num_left_out = int(((self._counts > 0) & (groups_E == 0)).sum())
        order = _small_order if self.num_units < SMALL else _large_order
        self._order = order(self.num_units, seed)

    def unit(self, position: int) -> tuple[int, tuple[int, ...]]:
        """(episode, start steps of its windows) of the unit at a position >= 0 of the endless row."""
        flat = self._order(position)
        episode = int(np.searchsorted(self._ends, flat, side="right"))
        group = flat - int(self._starts[episode])
        if self._width == 1:
            return episode, (group,)
        count, epoch = int(self._counts[episode]), position // self.num_units
        order = np.random.default_rng([self._seed, epoch, episode]).permutation(count)
        first = group * self._width
        return episode, tuple(int(order[i % count]) for i in range(first, first + self._width))


def _large_order(num_units, seed):
    import grain  # here, because grain imports jax

    order = grain.MapDataset.range(num_units).shuffle(seed=seed).repeat()
    return lambda position: int(order[position])


def _small_order(num_units, seed):
    @functools.lru_cache(maxsize=4)
    def epoch_order(epoch):
        return np.random.default_rng([seed, epoch]).permutation(num_units)

    def order(position):
        epoch, index = divmod(position, num_units)
        return int(epoch_order(epoch)[index])

    return order


class Sampler:
    """Ids of every row of every batch."""

    def __init__(
        self,
        counts: Mapping[str, np.ndarray],
        schedule: Schedule,
        *,
        batch_size: int,
        windows_per_episode: int,
        seed: int,
    ):
        """Prepares the shuffles.

        Args:
          counts: dataset -> int64[E] windows of each episode.
          schedule: see `mixture.checked_schedule`.
          batch_size: rows of the global batch, a multiple of `windows_per_episode`.
          windows_per_episode: windows of one episode that follow each other in a batch.
          seed: of the shuffles.

        Raises:
          DatasetError: a dataset without a single window.
        """
        self._width = windows_per_episode
        self._units_per_step = batch_size // windows_per_episode
        self._interleave = Interleave.of(schedule, self._units_per_step)
        self.epochs = []
        for name in dataset_names(schedule):
            # Named, so that another dataset in the mixture does not change this one's order.
            epochs = ShuffledEpochs(counts[name], windows_per_episode, zlib.crc32(f"{seed}/{name}".encode()))
            if not epochs.num_units:
                raise DatasetError(
                    f"dataset {name!r}: none of its {len(counts[name])} episodes has "
                    f"{windows_per_episode} window(s)"
                )
            self.epochs.append(epochs)

    def ids(self, step: int, rows: Sequence[int]) -> np.ndarray:
        """(dataset, episode, step of frame 0) of the given rows of batch `step`, int32[R, 3]."""
        units = {}
        ids = np.empty((len(rows), 3), np.int32)
        for i, row in enumerate(rows):
            unit, window = divmod(row, self._width)
            if unit not in units:
                units[unit] = self._unit(step * self._units_per_step + unit)
            dataset, episode, starts = units[unit]
            ids[i] = dataset, episode, starts[window]
        return ids

    def _unit(self, unit):
        dataset, position = self._interleave.locate(unit)
        return dataset, *self.epochs[dataset].unit(position)
