"""Random codes as a model uses them: per slot, with the frequencies that were seen."""

from __future__ import annotations

import numpy as np


class CodeFrequencies:
    """Counts codes per slot, keeps the vector of each, and draws from them.

    Slots are drawn independently of each other. The codebook itself is not
    needed: a code that was never seen is never drawn.
    """

    def __init__(self, num_slots: int, codebook_size: int):
        """Starts with nothing seen."""
        self._count_ZV = np.zeros((num_slots, codebook_size), np.int64)
        self._vector_ZVU: np.ndarray | None = None

    @property
    def num_seen(self) -> int:
        """Transitions counted."""
        return int(self._count_ZV[0].sum())

    def add(self, code_NZ: np.ndarray, quantized_NZU: np.ndarray) -> None:
        """Counts the codes of N transitions."""
        if self._vector_ZVU is None:
            self._vector_ZVU = np.zeros((*self._count_ZV.shape, quantized_NZU.shape[-1]), np.float32)
        slot_Z = np.arange(len(self._count_ZV))
        np.add.at(self._count_ZV, (slot_Z, code_NZ), 1)
        self._vector_ZVU[slot_Z, code_NZ] = quantized_NZU

    def draw(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Vectors of random codes, float32[*shape, Z, U]; needs at least one `add` with a transition."""
        columns = [
            self._vector_ZVU[slot, rng.choice(len(count_V), size=shape, p=count_V / count_V.sum())]
            for slot, count_V in enumerate(self._count_ZV)
        ]
        return np.stack(columns, axis=-2)
