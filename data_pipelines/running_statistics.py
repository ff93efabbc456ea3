"""Statistics of rows that come in pieces: bounded memory, and parts that were made apart can be merged."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from farsighted_jax.core.normalization import ArrayStatistics

# Quantiles are exact up to this many rows; of more, they are those of so many drawn at random.
MAX_ROWS = 2**16

_FIELDS = ("rows", "keys", "count", "mean", "squares", "min", "max", "min_row", "max_row")


class RunningStatistics:
    """Mean, spread, range and quantiles of rows of M numbers.

    Every row has a random key and those with the smallest keys are kept, so that
    what is kept depends neither on the pieces nor on the order of merging.
    """

    def __init__(self, seed: Sequence[int] | int = 0, max_rows: int = MAX_ROWS):
        """Starts without rows; `seed` of the keys must differ between parts that are to be merged."""
        self._rng, self._max_rows = np.random.default_rng(seed), max_rows
        self._rows: list[np.ndarray] = []
        self._keys: list[np.ndarray] = []
        self._num_kept = 0
        self._count, self._mean, self._squares = 0, 0.0, 0.0
        self._min, self._max, self._min_row, self._max_row = np.inf, -np.inf, -1, -1

    @property
    def count(self) -> int:
        """Rows so far."""
        return self._count

    @property
    def extreme_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the first rows that hold the minimum and the maximum of each dimension, two int64[M]."""
        return np.asarray(self._min_row), np.asarray(self._max_row)

    def add(self, x_BM: np.ndarray) -> None:
        """Adds finite rows float[B, M]."""
        x_BM = np.asarray(x_BM, np.float64)
        if not len(x_BM):
            return
        mean_M = x_BM.mean(0)
        low, high = x_BM.argmin(0), x_BM.argmax(0)
        self._extend(x_BM.min(0), low, x_BM.max(0), high)
        self._combine(len(x_BM), mean_M, ((x_BM - mean_M) ** 2).sum(0))
        self._keep(x_BM.astype(np.float32), self._rng.random(len(x_BM)))

    def merge(self, other: RunningStatistics) -> None:
        """Adds the rows of another part, as if they came after these."""
        if not other._count:
            return
        self._extend(other._min, other._min_row, other._max, other._max_row)
        self._combine(other._count, other._mean, other._squares)
        for rows, keys in zip(other._rows, other._keys, strict=True):
            self._keep(rows, keys)

    def result(self) -> ArrayStatistics | None:
        """Statistics of everything added, None if nothing was."""
        if not self._count:
            return None
        rows, _ = self._kept()
        q01, q99 = np.quantile(rows.astype(np.float64), [0.01, 0.99], axis=0)
        std = np.sqrt(self._squares / self._count)
        return ArrayStatistics(self._mean, std, q01, q99, self._min, self._max, self._count)

    def pooled(self, dimensions: Sequence[int]) -> ArrayStatistics:
        """Statistics of all values of some dimensions together, as of one dimension; needs a row."""
        chosen = list(dimensions)
        values = self._kept()[0][:, chosen].astype(np.float64)
        mean = np.mean(self._mean[chosen])
        # The spread within each dimension, and that of their means.
        variance = np.mean(self._squares[chosen] / self._count + (self._mean[chosen] - mean) ** 2)
        q01, q99 = np.quantile(values, [0.01, 0.99])
        ends = self._min[chosen].min(), self._max[chosen].max()
        one = (np.atleast_1d(value) for value in (mean, np.sqrt(variance), q01, q99, *ends))
        return ArrayStatistics(*one, self._count * len(chosen))

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that another process needs to go on merging."""
        rows, keys = self._kept()
        moments = (self._count, self._mean, self._squares, self._min, self._max, self._min_row, self._max_row)
        return {name: np.asarray(value) for name, value in zip(_FIELDS, (rows, keys, *moments), strict=True)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray]) -> RunningStatistics:
        """Inverse of `to_arrays`; KeyError if one is missing."""
        found = cls()
        rows, keys, count, *moments = (arrays[name] for name in _FIELDS)
        found._rows, found._keys, found._num_kept, found._count = [rows], [keys], len(rows), int(count)
        found._mean, found._squares, found._min, found._max, found._min_row, found._max_row = moments
        return found

    def _combine(self, count, mean_M, squares_M):
        """Chan's update: sums of squares about the mean, without cancellation."""
        total, shift_M = self._count + count, mean_M - self._mean
        self._squares = self._squares + squares_M + shift_M**2 * (self._count * count / total)
        self._mean = self._mean + shift_M * (count / total)
        self._count = total

    def _extend(self, min_M, min_row_M, max_M, max_row_M):
        lower, higher = min_M < self._min, max_M > self._max
        self._min_row = np.where(lower, self._count + min_row_M, self._min_row)
        self._max_row = np.where(higher, self._count + max_row_M, self._max_row)
        self._min, self._max = np.minimum(self._min, min_M), np.maximum(self._max, max_M)

    def _keep(self, rows_BM, keys_B):
        self._rows.append(rows_BM)
        self._keys.append(keys_B)
        self._num_kept += len(rows_BM)
        if self._num_kept > 2 * self._max_rows:
            self._kept()

    def _kept(self):
        rows, keys = np.concatenate(self._rows), np.concatenate(self._keys)
        if len(rows) > self._max_rows:
            chosen = np.sort(np.argpartition(keys, self._max_rows)[: self._max_rows])
            rows, keys = rows[chosen], keys[chosen]
        self._rows, self._keys, self._num_kept = [rows], [keys], len(rows)
        return rows, keys
