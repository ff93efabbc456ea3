"""Depth as a poor sensor or an estimate gives it: regions too near or too far, grain, holes."""

from __future__ import annotations

import cv2
import numpy as np

REGION = 8  # px; side of a hole, and how far errors of a region reach
HOLE_SHARE = 0.1  # of the regions
# Deviation of what lies linearly between independent values of deviation 1, in two dimensions.
INTERPOLATED = 2 / 3


def disturbed_depth(
    depth_HW: np.ndarray, valid_HW: np.ndarray, noise: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Multiplies depth by smooth and by fine noise, equally strong, and makes holes.

    Args:
      depth_HW: float32[H, W] metres.
      valid_HW: bool[H, W] where it was measured.
      noise: deviation of the logarithm of the factor, about the relative error.
      rng: source of the noise.

    Returns:
      float32[H, W] metres, 0 in holes; bool[H, W] where something is left.
    """
    height, width = depth_HW.shape
    cells = (-(-height // REGION), -(-width // REGION))
    region_HW = cv2.resize(rng.normal(size=cells), (width, height), interpolation=cv2.INTER_LINEAR)
    region_HW /= INTERPOLATED
    factor_HW = np.exp(noise * (region_HW + rng.normal(size=depth_HW.shape)) / np.sqrt(2))
    hole_HW = np.kron(rng.random(cells) < HOLE_SHARE, np.ones((REGION, REGION), bool))[:height, :width]
    valid_HW = valid_HW & ~hole_HW
    return np.where(valid_HW, depth_HW * factor_HW, 0).astype(np.float32), valid_HW
