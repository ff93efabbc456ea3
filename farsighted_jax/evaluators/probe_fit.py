"""A linear probe fitted on some rows and read on others, never on an episode it was fitted on."""

from __future__ import annotations

import dataclasses

import numpy as np

from farsighted_jax.evaluators import ridge
from farsighted_jax.evaluators.base import finite_or_none


@dataclasses.dataclass(frozen=True)
class ProbeRows:
    """Rows that a probe is fitted on.

    Attributes:
      x: float[B, E] features.
      y: float64[B, M] targets.
      episode: int[B].
    """

    x: np.ndarray
    y: np.ndarray
    episode: np.ndarray


def held_out_predictions(
    fit: ProbeRows,
    x_score_QE: np.ndarray,
    episode_Q: np.ndarray,
    groups: dict[str, list[int]],
    seed: int,
    *,
    same_split: bool,
) -> np.ndarray:
    """Predicts the targets of scored rows.

    Args:
      fit: what to fit on.
      x_score_QE: float[Q, E] features to read.
      episode_Q: their episodes.
      groups: group -> dimensions; each group has its own ridge strength.
      seed: of the folds.
      same_split: whether both are of one split; then cross-validation by episode,
        else one fit on all of `fit`.

    Returns:
      float64[Q, M]; NaN throughout where there are too few episodes to fit on.
    """
    rng = np.random.default_rng(seed)
    predicted_QM = np.full((len(x_score_QE), fit.y.shape[1]), np.nan)
    episodes = np.unique(fit.episode)
    if len(episodes) < (3 if same_split else 2) or not len(x_score_QE):
        return predicted_QM
    if not same_split:
        return ridge.fit_and_predict(fit.x, fit.y, fit.episode, x_score_QE, groups, rng)[0]
    shares = np.array_split(rng.permutation(np.union1d(episodes, episode_Q)), ridge.MAX_FOLDS)
    for part in shares:
        kept_B, held_Q = ~np.isin(fit.episode, part), np.isin(episode_Q, part)
        if not held_Q.any() or len(np.unique(fit.episode[kept_B])) < 2:
            continue
        predicted_QM[held_Q] = ridge.fit_and_predict(
            fit.x[kept_B], fit.y[kept_B], fit.episode[kept_B], x_score_QE[held_Q], groups, rng
        )[0]
    return predicted_QM


def r2_by_group(
    true_QM: np.ndarray, predicted_QM: np.ndarray, groups: dict[str, list[int]]
) -> dict[str, float | None]:
    """R2 of each group of dimensions; None where nothing was predicted or the truth is constant."""
    if not len(true_QM):
        return dict.fromkeys(groups)
    return {
        group: finite_or_none(ridge.r2(true_QM[:, dims], predicted_QM[:, dims]))
        for group, dims in groups.items()
    }


def action_groups(groups: tuple[str, ...]) -> dict[str, list[int]]:
    """Group -> its dimensions, by name."""
    return {name: [i for i, group in enumerate(groups) if group == name] for name in sorted(set(groups))}
