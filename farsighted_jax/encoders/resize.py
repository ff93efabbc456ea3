"""Resampling along an axis as a matrix, with the conventions of torch and of Pillow.

A matrix product is what an accelerator does best, and the weights are known
when the shapes are, so they are computed once in float64 on the host. Rows sum
to 1: beyond the border the edge is repeated, or with antialiasing left out.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from farsighted_jax.encoders.errors import EncoderError

# Kernel -> (half its width, its free parameter). Torch's plain bicubic uses -0.75, its antialiased one and
# Pillow's use -0.5.
KERNELS = {"linear": (1, 0.0), "cubic": (2, -0.5), "cubic_sharp": (2, -0.75)}


def resize_matrix(
    source: int,
    target: int,
    kernel: str,
    *,
    antialias: bool = False,
    align_corners: bool = False,
    step: float | None = None,
) -> np.ndarray:
    """The matrix that resamples one axis.

    Args:
      source: samples along the axis.
      target: samples wanted.
      kernel: one of `KERNELS`.
      antialias: whether the kernel is widened where the axis shrinks.
      align_corners: whether the first and last samples, not the outer edges of
        their cells, stay where they are.
      step: source samples a target sample, where it is not source / target.

    Returns:
      float32[target, source].

    Raises:
      EncoderError: an unknown kernel or a size below 1.
    """
    if kernel not in KERNELS or source < 1 or target < 1:
        raise EncoderError(
            f"cannot resample {source} to {target} samples with {kernel!r}; "
            f"expected sizes of at least 1 and a kernel of {sorted(KERNELS)}"
        )
    index = np.arange(target, dtype=np.float64)
    if align_corners:
        step = (source - 1) / max(target - 1, 1)
        centre = index * step
    else:
        step = source / target if step is None else step
        centre = (index + 0.5) * step - 0.5
    if antialias:
        stretch = max(step, 1.0)
        matrix = _weight(kernel, (np.arange(source) - centre[:, None]) / stretch)
        return (matrix / matrix.sum(axis=1, keepdims=True)).astype(np.float32)
    half, _ = KERNELS[kernel]
    matrix = np.zeros((target, source))
    first = np.floor(centre).astype(int)
    for offset in range(1 - half, half + 1):
        tap = first + offset
        weight = _weight(kernel, tap - centre)
        np.add.at(matrix, (np.arange(target), np.clip(tap, 0, source - 1)), weight)
    return matrix.astype(np.float32)


def resampled(image_BHWC, along_y: np.ndarray | None, along_x: np.ndarray | None):
    """Applies one matrix to the rows and one to the columns.

    Args:
      image_BHWC: float[..., H, W, C].
      along_y: float32[Y, H], or None to leave the rows.
      along_x: float32[X, W], or None to leave the columns.

    Returns:
      float[..., Y, X, C] in the dtype of `image_BHWC`.
    """
    for matrix, product in ((along_y, "...HWC,YH->...YWC"), (along_x, "...YWC,XW->...YXC")):
        if matrix is not None:
            image_BHWC = jnp.einsum(
                product,
                image_BHWC,
                jnp.asarray(matrix, image_BHWC.dtype),
                precision="highest",
                preferred_element_type=jnp.float32,
            ).astype(image_BHWC.dtype)
    return image_BHWC


def resized(image_BHWC, height: int, width: int, kernel: str, **options):
    """Resamples float[..., H, W, C] to float[..., height, width, C]; for `options` see `resize_matrix`."""
    pairs = zip(image_BHWC.shape[-3:-1], (height, width), strict=True)
    matrices = [None if pair[0] == pair[1] else resize_matrix(*pair, kernel, **options) for pair in pairs]
    return resampled(image_BHWC, *matrices)


def _weight(kernel, distance):
    half, a = KERNELS[kernel]
    x = np.abs(distance)
    if half == 1:
        return np.maximum(1 - x, 0)
    near = ((a + 2) * x - (a + 3)) * x * x + 1
    far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
