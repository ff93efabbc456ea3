"""Nearest clips by their code vectors: exact, in one pass, keeping only the best."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.clips import FrameSource


class RetrievalError(ValueError):
    """There is nothing to choose from."""


class NearestClips:
    """The k candidates with the smallest root mean squared difference of code vectors.

    Attributes:
      num_seen: candidates compared.
      mean_distance: over all of them, to judge the best by.
    """

    def __init__(self, query_tZU: np.ndarray, k: int, one_a_source: bool = False):
        """Takes the query's vectors float[t, Z, U].

        With `one_a_source` only the best clip of each source counts.
        """
        self._query_tZU, self._k, self._one = np.asarray(query_tZU, np.float64), k, one_a_source
        self._best: list[dict[str, Any]] = []
        self._sum, self.num_seen = 0.0, 0

    @property
    def mean_distance(self) -> float:
        """See the class."""
        return self._sum / max(self.num_seen, 1)

    def add(
        self, source: FrameSource, starts: Sequence[int], vectors_BtZU: np.ndarray, code_BtZ: np.ndarray
    ) -> None:
        """Compares the clips that begin at `starts`; on a tie the one that came first is nearer."""
        distance_B = np.sqrt(np.square(vectors_BtZU - self._query_tZU).mean(axis=(1, 2, 3)))
        self._sum += float(distance_B.sum())
        self.num_seen += len(distance_B)
        for row in np.argsort(distance_B, kind="stable")[: 1 if self._one else self._k].tolist():
            start = int(starts[row])
            self._best.append(
                {
                    "name": source.name,
                    "start": start,
                    "start_s": start / source.hz,
                    "distance": float(distance_B[row]),
                    "codes": code_BtZ[row].tolist(),
                    "source": source,
                }
            )
        self._best.sort(key=lambda entry: entry["distance"])
        if self._one:
            nearest: dict[str, dict[str, Any]] = {}
            for entry in self._best:
                nearest.setdefault(entry["name"], entry)
            self._best = list(nearest.values())
        del self._best[self._k :]

    def result(self) -> list[dict[str, Any]]:
        """Nearest first: name, start (frame and seconds), distance, codes, and the source.

        Raises:
          RetrievalError: no candidate was added.
        """
        if not self._best:
            raise RetrievalError(
                "no candidate clip: what was searched holds no complete clip but the query's own"
            )
        return self._best
