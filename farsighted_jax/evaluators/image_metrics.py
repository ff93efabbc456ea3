"""Image and depth metrics of single frames: MSE, PSNR, SSIM, AbsRel, RMSE, delta, error of relative depth."""

from __future__ import annotations

import cv2
import numpy as np

from farsighted_jax.evaluators.base import EvaluationError

# 100 dB. Two equal frames have no PSNR; without a floor one such pair would make the mean infinite.
MSE_FLOOR = 1e-10
SSIM_WINDOW = 11
SSIM_SIGMA = 1.5
# Bounds of a predicted depth: exp() of a wild prediction must not make a mean infinite.
DEPTH_FLOOR_M = 1e-3
DEPTH_CEILING_M = 1e3


def mse(first_BHWC: np.ndarray, second_BHWC: np.ndarray) -> np.ndarray:
    """Mean squared error of each image, float64[B]."""
    difference = np.asarray(first_BHWC, np.float64) - second_BHWC
    return np.mean(np.square(difference), axis=(1, 2, 3))


def psnr(mse_B: np.ndarray) -> np.ndarray:
    """Peak signal-to-noise ratio in dB for a data range of 1, capped at 100 dB (`MSE_FLOOR`)."""
    return -10 * np.log10(np.maximum(mse_B, MSE_FLOOR))


def ssim(first_BHWC: np.ndarray, second_BHWC: np.ndarray) -> np.ndarray:
    """Structural similarity of each image (Wang et al. 2004), float64[B].

    Gaussian window 11x11 with sigma 1.5, K1 = 0.01, K2 = 0.03, data range 1,
    population covariance; the mean over channels and over the pixels whose
    window lies within the image.

    Raises:
      EvaluationError: an image smaller than the window.
    """
    if min(first_BHWC.shape[1:3]) < SSIM_WINDOW:
        raise EvaluationError(f"SSIM needs images of {SSIM_WINDOW} px or more, found {first_BHWC.shape[1:3]}")
    pairs = zip(first_BHWC, second_BHWC, strict=True)
    return np.array([_ssim_image(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs])


def _ssim_image(a_HWC, b_HWC):
    mean_a, mean_b = _windowed(a_HWC), _windowed(b_HWC)
    variance_a = _windowed(a_HWC * a_HWC) - mean_a**2
    variance_b = _windowed(b_HWC * b_HWC) - mean_b**2
    covariance = _windowed(a_HWC * b_HWC) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return np.mean(luminance * structure)


def _windowed(x_HWC):
    pad = SSIM_WINDOW // 2
    return cv2.GaussianBlur(x_HWC, (SSIM_WINDOW, SSIM_WINDOW), SSIM_SIGMA)[pad:-pad, pad:-pad]


def depth_errors(
    predicted_m_BHW1: np.ndarray, true_m_BHW1: np.ndarray, valid_BHW1: np.ndarray
) -> dict[str, np.ndarray]:
    """Depth errors of each image over its valid pixels.

    Args:
      predicted_m_BHW1: float[B, H, W, 1] metres, clipped to [1 mm, 1 km] here.
      true_m_BHW1: float[B, H, W, 1] metres.
      valid_BHW1: bool[B, H, W, 1]; other pixels have no influence.

    Returns:
      "abs_rel" mean |d - d*| / d*; "rmse" metres; "delta" share of pixels with
      max(d / d*, d* / d) < 1.25; each float64[B], NaN without a valid pixel.
    """
    count_B = np.sum(valid_BHW1, axis=(1, 2, 3))
    true = np.where(valid_BHW1, true_m_BHW1, 1.0).astype(np.float64)
    predicted = np.where(valid_BHW1, predicted_m_BHW1, 1.0).astype(np.float64)
    predicted = np.clip(predicted, DEPTH_FLOOR_M, DEPTH_CEILING_M)

    def mean_B(x_BHW1):
        total_B = np.sum(np.where(valid_BHW1, x_BHW1, 0.0), axis=(1, 2, 3))
        return np.where(count_B, total_B / np.maximum(count_B, 1), np.nan)

    return {
        "abs_rel": mean_B(np.abs(predicted - true) / true),
        "rmse": np.sqrt(mean_B(np.square(predicted - true))),
        "delta": mean_B(np.maximum(predicted / true, true / predicted) < 1.25),
    }


def relative_depth_error(predicted_BHW1: np.ndarray, true_BHW1: np.ndarray) -> np.ndarray:
    """Error of relative depth after scale and shift of each image are fitted to the truth.

    A prediction with near and far the wrong way round is not turned over: its
    scale is 0, and its error that of the mean.

    Args:
      predicted_BHW1: float[B, H, W, 1] in any units; larger is farther away.
      true_BHW1: float[B, H, W, 1] relative depth, see `encoders.pseudo_depth.relative_depth`.

    Returns:
      float64[B] mean absolute difference, in the units of the truth: mean
      absolute deviations of the depth of the clip's frame 0.
    """
    predicted, true = (_centred(np.asarray(x, np.float64)) for x in (predicted_BHW1, true_BHW1))
    variance_B = np.mean(np.square(predicted), axis=(1, 2, 3), keepdims=True)
    covariance_B = np.mean(predicted * true, axis=(1, 2, 3), keepdims=True)
    scale_B = np.maximum(covariance_B, 0) / np.where(variance_B > 0, variance_B, 1)
    return np.mean(np.abs(scale_B * predicted - true), axis=(1, 2, 3))


def _centred(x_BHW1):
    return x_BHW1 - np.mean(x_BHW1, axis=(1, 2, 3), keepdims=True)
