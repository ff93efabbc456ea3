import numpy as np
import pytest

from farsighted_jax.evaluators import ridge


def test_folds_never_split_an_episode_and_cover_every_sample_once():
    rng = np.random.default_rng(0)
    for num_episodes in (2, 3, 7, 40):
        episode = rng.integers(0, num_episodes, 200)
        folds = ridge.episode_folds(episode, rng)
        assert len(folds) == min(5, len(np.unique(episode)))
        np.testing.assert_array_equal(np.sum(folds, axis=0), 1)
        for held in folds:
            assert held.any() and not set(episode[held]) & set(episode[~held])


@pytest.mark.parametrize("width", [4, 60])
def test_predictions_solve_the_normal_equations_with_either_gram_matrix(width):
    rng = np.random.default_rng(1)
    x, y, x_score = rng.normal(size=(30, width)), rng.normal(size=(30, 2)), rng.normal(size=(5, width))
    mean, std = x.mean(0), x.std(0)
    standardised = (x - mean) / std
    weights = np.linalg.solve(
        standardised.T @ standardised + 0.1 * 30 * np.eye(width), standardised.T @ (y - y.mean(0))
    )
    expected = (x_score - mean) / std @ weights + y.mean(0)
    np.testing.assert_allclose(ridge.ridge_predictions(x, y, x_score, (0.1,))[0], expected, atol=1e-9)


def test_a_constant_feature_changes_nothing():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 3)), rng.normal(size=(30, 2))
    widened = np.concatenate([x, np.full((30, 1), np.float32(0.1))], axis=1)
    score = np.concatenate([x, rng.normal(size=(30, 1))], axis=1)
    np.testing.assert_allclose(
        ridge.ridge_predictions(widened, y, score, (0.1,)),
        ridge.ridge_predictions(x, y, x, (0.1,)),
        atol=1e-9,
    )


def test_inner_validation_prefers_strong_ridge_for_noise_and_weak_for_signal():
    rng = np.random.default_rng(3)
    x, episode = rng.normal(size=(60, 20)), np.repeat(np.arange(20), 3)
    y = np.stack([x[:, 0] + x[:, 1], rng.normal(size=60)], axis=1)
    _, strength = ridge.fit_and_predict(x, y, episode, x, {"signal": [0], "noise": [1]}, rng)
    assert strength["signal"] <= 1e-3 < 1 <= strength["noise"]


def test_r2_is_zero_for_the_mean_one_for_the_truth_and_undefined_for_a_constant():
    true = np.random.default_rng(4).normal(size=(50, 2))
    assert ridge.r2(true, true) == 1.0
    assert ridge.r2(true, np.broadcast_to(true.mean(0), true.shape)) == pytest.approx(0.0)
    assert np.isnan(ridge.r2(np.full((5, 1), 0.3), np.zeros((5, 1))))


def test_r2_sums_errors_over_dimensions():
    true = np.array([[0.0, 0.0], [2.0, 20.0]])
    predicted = np.array([[0.0, 0.0], [0.0, 20.0]])
    assert ridge.r2(true, predicted) == pytest.approx(1 - 4 / (2 + 200))


def test_interval_contains_the_estimate_narrows_with_episodes_and_needs_two():
    rng = np.random.default_rng(5)

    def interval(num):
        true = rng.normal(size=(num * 4, 1))
        predicted = true + rng.normal(scale=0.5, size=true.shape)
        low, high = ridge.r2_interval(true, predicted, np.repeat(np.arange(num), 4), seed=0)
        assert low <= ridge.r2(true, predicted) <= high
        return high - low

    assert interval(400) < interval(8)
    assert ridge.r2_interval(np.ones((3, 1)), np.ones((3, 1)), np.zeros(3, int), seed=0) is None


def test_inner_validation_keeps_episodes_whole_too():
    rng = np.random.default_rng(6)
    episode = np.repeat(np.arange(12), 5)
    y = rng.normal(size=(12, 1))[episode]
    names = rng.normal(size=(12, 12))[episode]
    _, strength = ridge.fit_and_predict(names, y, episode, names, {"all": [0]}, rng)
    assert strength["all"] >= 1
