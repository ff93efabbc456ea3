"""The one normalisation: actions, proprioception and depth, and their exact inverses.

Used by the reader, the evaluators and the policy server, on numpy arrays.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MODES = ("q01_q99", "mean_std", "none")


class NormalizationError(ValueError):
    """Values and statistics do not fit each other; the message says what was found and expected."""


@dataclasses.dataclass(frozen=True)
class ArrayStatistics:
    """Per-dimension statistics of a vector; every attribute is float64[M].

    `count` is the number of vectors they were computed from.
    """

    mean: np.ndarray
    std: np.ndarray
    q01: np.ndarray
    q99: np.ndarray
    min: np.ndarray
    max: np.ndarray
    count: int

    def to_dict(self) -> dict[str, Any]:
        """Plain lists and numbers, for JSON."""
        return {k: v if k == "count" else np.asarray(v).tolist() for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ArrayStatistics:
        """Inverse of `to_dict`."""
        return cls(**{k: int(v) if k == "count" else np.asarray(v, np.float64) for k, v in values.items()})


def array_statistics(x_BM: np.ndarray) -> ArrayStatistics:
    """Statistics over the rows of float[B, M].

    Raises:
      NormalizationError: no row, or a NaN or Inf (the message names row and dimension).
    """
    x_BM = np.asarray(x_BM, np.float64)
    if x_BM.ndim != 2 or not len(x_BM):
        raise NormalizationError(f"statistics need float[B, M] with B >= 1, found shape {x_BM.shape}")
    bad = np.argwhere(~np.isfinite(x_BM))
    if len(bad):
        raise NormalizationError(
            f"statistics of a non-finite value: {x_BM[tuple(bad[0])]} "
            f"at row {bad[0][0]}, dimension {bad[0][1]}"
        )
    q01, q99 = np.quantile(x_BM, [0.01, 0.99], axis=0)
    return ArrayStatistics(x_BM.mean(0), x_BM.std(0), q01, q99, x_BM.min(0), x_BM.max(0), len(x_BM))


def _offset_and_scale(shape, statistics, mode, keep):
    if mode == "q01_q99":
        offset, scale = (statistics.q99 + statistics.q01) / 2, (statistics.q99 - statistics.q01) / 2
    elif mode == "mean_std":
        offset, scale = statistics.mean, statistics.std
    elif mode == "none":
        offset, scale = np.zeros_like(statistics.mean), np.ones_like(statistics.mean)
    else:
        raise NormalizationError(f"normalisation mode {mode!r} is not one of {MODES}")
    # A constant dimension is centred, not divided by nothing.
    scale = np.where(scale < 1e-8, 1.0, scale)
    keep = np.zeros(len(offset), bool) if keep is None else np.asarray(keep, bool)
    _check_width(shape, len(offset), len(keep))
    return np.where(keep, 0.0, offset), np.where(keep, 1.0, scale)


def _check_width(shape, width, num_flags):
    # Broadcasting would accept a vector of one dimension and act on all.
    if shape[-1:] != (width,) or num_flags != width:
        raise NormalizationError(
            f"statistics of {width} dimensions do not fit values of shape {tuple(shape)} "
            f"with {num_flags} keep flags"
        )


class Normalizer:
    """`normalize` with everything but x settled, for many small calls."""

    def __init__(
        self, statistics: ArrayStatistics, mode: str = "q01_q99", keep: Sequence[bool] | None = None
    ):
        """Takes the arguments of `normalize`."""
        self._offset, self._scale = _offset_and_scale(statistics.mean.shape, statistics, mode, keep)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """As `normalize`."""
        _check_width(np.shape(x), len(self._offset), len(self._offset))
        return ((np.asarray(x, np.float64) - self._offset) / self._scale).astype(np.float32)


def normalize(
    x: np.ndarray, statistics: ArrayStatistics, mode: str = "q01_q99", keep: Sequence[bool] | None = None
) -> np.ndarray:
    """Normalises the last axis.

    q01_q99 maps [q01, q99] to [-1, 1] (nothing is clipped, so that the inverse
    is exact); mean_std maps to mean 0 and standard deviation 1.

    Args:
      x: float[..., M] in the dataset's units.
      statistics: of the same M dimensions.
      mode: one of `MODES`.
      keep: M flags, True where the value is left alone (a gripper).

    Returns:
      float32[..., M]. `denormalize` with the same arguments inverts it.

    Raises:
      NormalizationError: an unknown mode, or another number of dimensions than M.
    """
    return Normalizer(statistics, mode, keep)(x)


def denormalize(
    x: np.ndarray, statistics: ArrayStatistics, mode: str = "q01_q99", keep: Sequence[bool] | None = None
) -> np.ndarray:
    """Inverse of `normalize`; float32[..., M] in the dataset's units."""
    offset, scale = _offset_and_scale(np.shape(x), statistics, mode, keep)
    return (np.asarray(x, np.float64) * scale + offset).astype(np.float32)


def normalize_depth(depth_m: np.ndarray, valid: np.ndarray, center: float, scale: float) -> np.ndarray:
    """Log depth, centred and scaled; 0 where not valid.

    Args:
      depth_m: float[...] metres.
      valid: bool[...], same shape.
      center: mean of log(metres) over the dataset's valid pixels.
      scale: its standard deviation.
    """
    log_depth = np.log(np.where(valid, depth_m, 1.0))
    return np.where(valid, (log_depth - center) / scale, 0.0).astype(np.float32)


def denormalize_depth(depth: np.ndarray, center: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Metres from normalised log depth; `center` and `scale` broadcast against it."""
    return np.exp(np.asarray(depth, np.float64) * scale + center).astype(np.float32)
