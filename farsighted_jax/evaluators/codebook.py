"""How much of the codebook a model uses: usage, perplexity, distinct tuples."""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.evaluators.base import (
    Arrays,
    EvaluationError,
    Setup,
    horizon_ms,
    horizon_name,
    valid_transitions,
)

ALL = "all"


def usage(counts_V: np.ndarray) -> float:
    """Fraction of the codes that occur at all."""
    return float(np.count_nonzero(counts_V) / counts_V.size)


def perplexity(counts_V: np.ndarray) -> float:
    """exp(entropy) of the empirical distribution: 1 for a single code, V for a uniform use."""
    share = counts_V[counts_V > 0] / counts_V.sum()
    return float(np.exp(-np.sum(share * np.log(share))))


class CodebookUsage:
    """Counts codes per slot over the whole split, for each horizon and for all together.

    Statistics over the whole split, not means over batches: the perplexity of
    a small batch is bounded by its size and says nothing about the model.
    """

    needs = frozenset()

    def __init__(self, setup: Setup):
        self._shape = (setup.num_slots, setup.codebook_size)
        self._counts: dict[int, np.ndarray] = {}
        self._tuples: dict[int, set[tuple[int, ...]]] = {}

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds the codes of the valid transitions; EvaluationError on a code outside the codebook."""
        code_BtZ, valid_Bt, ms_Bt = np.asarray(outputs["code"]), valid_transitions(batch), horizon_ms(batch)
        num_slots, codebook_size = self._shape
        for ms in np.unique(ms_Bt[valid_Bt]).tolist():
            code_BZ = code_BtZ[valid_Bt & (ms_Bt == ms)]
            if code_BZ.min() < 0 or code_BZ.max() >= codebook_size:
                raise EvaluationError(
                    f"codes range over [{code_BZ.min()}, {code_BZ.max()}], expected [0, {codebook_size - 1}]"
                )
            counts_ZV = self._counts.setdefault(ms, np.zeros(self._shape, np.int64))
            np.add.at(counts_ZV, (np.arange(num_slots), code_BZ), 1)
            self._tuples.setdefault(ms, set()).update(map(tuple, np.unique(code_BZ, axis=0).tolist()))

    def result(self) -> dict[str, Any]:
        """Metric -> horizon (or "all") -> value.

        `usage` and `perplexity` pool the slots; `..._per_slot` are lists of Z.
        `counts_per_slot` holds the counts themselves, for "all" only.
        """
        if not self._counts:
            return {"num_samples": {ALL: 0}}
        counts = {horizon_name(ms): self._counts[ms] for ms in sorted(self._counts)}
        counts[ALL] = sum(self._counts.values())
        tuples = {horizon_name(ms): len(self._tuples[ms]) for ms in sorted(self._tuples)}
        tuples[ALL] = len(set().union(*self._tuples.values()))
        return {
            "usage": {key: usage(c.sum(axis=0)) for key, c in counts.items()},
            "perplexity": {key: perplexity(c.sum(axis=0)) for key, c in counts.items()},
            "usage_per_slot": {key: [usage(row) for row in c] for key, c in counts.items()},
            "perplexity_per_slot": {key: [perplexity(row) for row in c] for key, c in counts.items()},
            "distinct_tuples": tuples,
            "num_samples": {key: int(c[0].sum()) for key, c in counts.items()},
            "codebook_size": self._shape[1],
            "counts_per_slot": {ALL: counts[ALL].tolist()},
        }
