"""Ridge regression in closed form, folds by episode, and R2 with an interval; float64 numpy."""

from __future__ import annotations

import numpy as np

# Penalties relative to the number of samples (features have unit variance), so one grid serves all sizes.
STRENGTHS = tuple(10.0**power for power in range(-6, 4))
MAX_FOLDS = 5
BOOTSTRAP_DRAWS = 200


def episode_folds(
    episode_B: np.ndarray, rng: np.random.Generator, max_folds: int = MAX_FOLDS
) -> list[np.ndarray]:
    """Splits samples into folds of whole episodes.

    Args:
      episode_B: int[B] episode of each sample.
      rng: source of the assignment.
      max_folds: folds, or the number of episodes if that is less.

    Returns:
      One bool[B] a fold, True for its samples; each sample is in exactly one.
    """
    episodes = rng.permutation(np.unique(episode_B))
    return [np.isin(episode_B, part) for part in np.array_split(episodes, min(max_folds, len(episodes)))]


def ridge_predictions(
    x_fit_BE: np.ndarray, y_fit_BM: np.ndarray, x_score_QE: np.ndarray, strengths: tuple[float, ...]
) -> np.ndarray:
    """Fits one linear map a strength and applies it, float64[strengths, Q, M].

    Features are standardised and targets centred on the fit part. The smaller
    of the two Gram matrices is decomposed once for all strengths.
    """
    x_BE, x_QE = _standardised(np.asarray(x_fit_BE, np.float64), np.asarray(x_score_QE, np.float64))
    y_mean_M = y_fit_BM.mean(axis=0)
    y_BM = y_fit_BM - y_mean_M
    count, width = x_BE.shape
    if width <= count:
        eigenvalue, basis = np.linalg.eigh(x_BE.T @ x_BE)
        left, right = x_QE @ basis, basis.T @ (x_BE.T @ y_BM)
    else:
        eigenvalue, basis = np.linalg.eigh(x_BE @ x_BE.T)
        left, right = (x_QE @ x_BE.T) @ basis, basis.T @ y_BM
    eigenvalue = np.maximum(eigenvalue, 0.0)
    shrunk = [right / (eigenvalue + strength * count)[:, None] for strength in strengths]
    return np.stack([left @ part + y_mean_M for part in shrunk])


def _standardised(x_fit_BE, x_score_QE):
    mean_E, std_E = x_fit_BE.mean(axis=0), x_fit_BE.std(axis=0)
    # A constant column has a deviation of rounding size; dividing by it would turn noise into a feature.
    constant_E = std_E <= 1e-7 * np.maximum(np.abs(x_fit_BE).max(axis=0), 1e-30)
    std_E = np.where(constant_E, np.inf, std_E)
    return (x_fit_BE - mean_E) / std_E, (x_score_QE - mean_E) / std_E


def fit_and_predict(
    x_fit_BE: np.ndarray,
    y_fit_BM: np.ndarray,
    episode_B: np.ndarray,
    x_score_QE: np.ndarray,
    groups: dict[str, list[int]],
    rng: np.random.Generator,
) -> tuple[np.ndarray, dict[str, float]]:
    """Predicts the score part with the strength that inner cross-validation finds best for each group.

    Only the fit part is looked at for the choice; its folds are whole episodes,
    two or more of which are needed.

    Returns:
      prediction_QM: float64[Q, M].
      strength: group -> the chosen element of `STRENGTHS`.
    """
    error_by_strength = np.zeros((len(STRENGTHS), y_fit_BM.shape[1]))
    for held in episode_folds(episode_B, rng):
        predicted = ridge_predictions(x_fit_BE[~held], y_fit_BM[~held], x_fit_BE[held], STRENGTHS)
        error_by_strength += np.square(predicted - y_fit_BM[held]).sum(axis=1)
    predicted = ridge_predictions(x_fit_BE, y_fit_BM, x_score_QE, STRENGTHS)
    prediction_QM, strength = np.empty(predicted.shape[1:]), {}
    for group, dims in groups.items():
        best = int(np.argmin(error_by_strength[:, dims].sum(axis=1)))
        prediction_QM[:, dims] = predicted[best][:, dims]
        strength[group] = STRENGTHS[best]
    return prediction_QM, strength


def r2(true_QM: np.ndarray, predicted_QM: np.ndarray) -> float:
    """1 - SSE / SST, both summed over samples and dimensions; NaN if the truth is constant.

    SST is about the mean of the scored samples themselves, so predicting the
    fit part's mean scores at most 0.
    """
    total = np.square(true_QM - true_QM.mean(axis=0)).sum()
    error = np.square(true_QM - predicted_QM).sum()
    return 1 - error / total if total > _rounding(true_QM) else np.nan


def r2_interval(
    true_QM: np.ndarray, predicted_QM: np.ndarray, episode_Q: np.ndarray, seed: int
) -> tuple[float, float] | None:
    """95 % percentile interval of `r2` under resampling of whole episodes; None for fewer than two.

    Samples of an episode overlap in time; resampling single samples would make
    the interval too narrow.
    """
    episodes, index_Q = np.unique(episode_Q, return_inverse=True)
    num = len(episodes)
    if num < 2:
        return None
    centred_QM = true_QM - true_QM.mean(axis=0)
    membership = np.equal(np.arange(num)[:, None], index_Q)
    count = membership.sum(axis=1)
    first, second = membership @ centred_QM, membership @ np.square(centred_QM).sum(axis=1)
    error = membership @ np.square(true_QM - predicted_QM).sum(axis=1)
    draws = np.random.default_rng(seed).multinomial(num, np.full(num, 1 / num), size=BOOTSTRAP_DRAWS)
    total = draws @ second - np.square(draws @ first).sum(axis=1) / (draws @ count)
    defined = total > _rounding(true_QM)
    if not defined.any():
        return None
    low, high = np.percentile(1 - (draws @ error)[defined] / total[defined], [2.5, 97.5])
    return float(low), float(high)


def _rounding(true_QM):
    return 1e-12 * max(float(np.square(true_QM).sum()), 1e-30)
