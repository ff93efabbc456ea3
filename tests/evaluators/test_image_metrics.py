import numpy as np
import pytest

from farsighted_jax.evaluators.base import EvaluationError
from farsighted_jax.evaluators.image_metrics import depth_errors, mse, psnr, ssim


def slow_ssim(a, b):
    """SSIM of one channel by its definition: a loop over windows, weighted moments about the mean."""
    offsets = np.arange(-5, 6)
    weight = np.exp(-(offsets[:, None] ** 2 + offsets[None, :] ** 2) / (2 * 1.5**2))
    weight /= weight.sum()
    values = []
    for y in range(5, a.shape[0] - 5):
        for x in range(5, a.shape[1] - 5):
            p, q = a[y - 5 : y + 6, x - 5 : x + 6], b[y - 5 : y + 6, x - 5 : x + 6]
            mp, mq = (weight * p).sum(), (weight * q).sum()
            vp, vq = (weight * (p - mp) ** 2).sum(), (weight * (q - mq) ** 2).sum()
            cov = (weight * (p - mp) * (q - mq)).sum()
            values.append(
                (2 * mp * mq + 1e-4) * (2 * cov + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4))
            )
    return np.mean(values)


def test_ssim_equals_an_independent_loop():
    rng = np.random.default_rng(0)
    a = rng.random((2, 17, 21, 3))
    b = np.clip(a + rng.normal(scale=0.2, size=a.shape), 0, 1)
    expected = [np.mean([slow_ssim(a[i, ..., c], b[i, ..., c]) for c in range(3)]) for i in range(2)]
    np.testing.assert_allclose(ssim(a, b), expected, rtol=1e-10)


def test_ssim_of_equal_images_is_one_and_is_symmetric():
    rng = np.random.default_rng(1)
    a, b = rng.random((1, 16, 16, 3)), rng.random((1, 16, 16, 3))
    np.testing.assert_allclose(ssim(a, a), 1.0)
    np.testing.assert_allclose(ssim(a, b), ssim(b, a))
    assert ssim(a, b)[0] < 0.3


def test_ssim_refuses_images_smaller_than_its_window():
    with pytest.raises(EvaluationError, match="11 px.*8"):
        ssim(np.zeros((1, 8, 16, 3)), np.zeros((1, 8, 16, 3)))


def test_psnr_of_known_errors():
    a = np.zeros((3, 4, 4, 3))
    b = np.stack([np.full((4, 4, 3), 0.1), np.full((4, 4, 3), 1.0), np.zeros((4, 4, 3))])
    np.testing.assert_allclose(psnr(mse(a, b)), [20.0, 0.0, 100.0], atol=1e-9)


def test_depth_errors_by_hand():
    true = np.array([1.0, 2.0, 4.0, 9.0]).reshape(1, 2, 2, 1)
    predicted = np.array([1.1, 3.0, 4.0, np.nan]).reshape(1, 2, 2, 1)
    valid = np.array([True, True, True, False]).reshape(1, 2, 2, 1)
    errors = depth_errors(predicted, true, valid)
    np.testing.assert_allclose(errors["abs_rel"], (0.1 + 0.5 + 0) / 3)
    np.testing.assert_allclose(errors["rmse"], np.sqrt((0.01 + 1) / 3))
    np.testing.assert_allclose(errors["delta"], 2 / 3)


def test_depth_errors_stay_finite_for_wild_predictions_and_are_nan_without_pixels():
    true = np.ones((2, 2, 2, 1))
    valid = np.ones((2, 2, 2, 1), bool)
    valid[1] = False
    errors = depth_errors(np.full(true.shape, np.inf), true, valid)
    assert np.isfinite(errors["rmse"][0]) and np.isnan(errors["rmse"][1])
