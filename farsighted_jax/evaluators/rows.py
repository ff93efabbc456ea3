"""Rows of transitions, collected by dataset and horizon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np


def by_dataset_and_horizon(
    chosen_Bt: np.ndarray, dataset_B: np.ndarray, ms_Bt: np.ndarray
) -> Iterator[tuple[int, int, np.ndarray, np.ndarray]]:
    """Chosen transitions in groups that may be pooled.

    Args:
      chosen_Bt: bool[B, t].
      dataset_B: int[B].
      ms_Bt: int[B, t] horizon, see `base.horizon_ms`.

    Yields:
      dataset, horizon in ms, and the places (sample, k) of its transitions, int[Q] each.
    """
    dataset_B = np.asarray(dataset_B)
    for index in np.unique(dataset_B[chosen_Bt.any(axis=1)]).tolist():
        mine_Bt = chosen_Bt & (dataset_B == index)[:, None]
        for ms in np.unique(ms_Bt[mine_Bt]).tolist():
            yield index, ms, *np.nonzero(mine_Bt & (ms_Bt == ms))


def joined(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Rows of several batches, one after the other."""
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
