"""The task's own metrics (losses, mostly), averaged over a split."""

from __future__ import annotations

import numpy as np

from farsighted_jax.evaluators.base import Arrays, Setup, finite_or_none


class TaskMetrics:
    """Adds up (sum, count) of every metric the task reports.

    The result is the sum over all batches divided by the count over all
    batches, so a last batch that is half empty weighs half.
    """

    needs = frozenset({"metrics"})

    def __init__(self, setup: Setup):
        del setup
        self._sums: dict[str, tuple[float, float]] = {}

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds `outputs["metrics"]`, name -> (sum, count)."""
        del batch
        for name, (total, count) in outputs["metrics"].items():
            before = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (
                before[0] + float(np.asarray(total, np.float64)),
                before[1] + float(np.asarray(count, np.float64)),
            )

    def result(self) -> dict[str, dict[str, float | None]]:
        """{"mean": {name: value}, "count": {name: elements}}; None where nothing was counted."""
        items = self._sums.items()
        return {
            "mean": {
                name: finite_or_none(total / count) if count else None for name, (total, count) in items
            },
            "count": {name: count for name, (_, count) in items},
        }
