"""Standardisers: small pure functions that bring stored columns of an episode to this project's conventions.

Ours: a gripper's opening is 1 = open and 0 = closed; rotations are those of `core.rotations`; a change is
that from this step to the next. Each function of `FORMS` takes the columns float64[L, n] of one feature and
what a block says about them, and gives float64[L, m], or [L - 1, m] where it looks at the next step.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farsighted_jax.core.rotations import (
    matrix_from_axis_angle,
    matrix_from_quat,
    rpy_from_matrix,
    xyzw,
)

# Counts up where a form of the same name begins to give other numbers: fingerprints of what it reads change.
LAYOUT = 1
# Relative gripper commands within it of 0 mean: stay.
_STAY = 0.1


def stored(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """What is stored, as it is."""
    return values_Ln


def flipped(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """Yaw, pitch and roll as roll, pitch and yaw."""
    return values_Ln[:, ::-1]


def opening(values_Ln: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """A gripper's position from (value when open, value when closed) to 1 and 0, cut off beyond them."""
    opened, closed = ends
    return np.clip((values_Ln - closed) / (opened - closed), 0.0, 1.0)


def held(values_Ln: np.ndarray, ends: tuple[float, float]) -> np.ndarray:
    """Where a gripper is that is told to open or to close, and keeps what it was told until the next command.

    Before the first command it is taken to be at the other end, so that the command does something; without
    any, it is open.

    Args:
      values_Ln: float[L, 1], near 0 for no command.
      ends: sign of the command to open, and of that to close.
    """
    toward_open_L = values_Ln[:, 0] * np.sign(ends[0])
    told_L = np.flatnonzero(np.abs(toward_open_L) > _STAY)
    if not len(told_L):
        return np.ones_like(values_Ln)
    opens_C = (toward_open_L[told_L] > 0).astype(np.float64)
    last_L = np.searchsorted(told_L, np.arange(len(values_Ln)), side="right") - 1
    return np.where(last_L < 0, 1 - opens_C[0], opens_C[last_L])[:, None]


def rpy_of_xyzw(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """Quaternions (x, y, z, w) of any length but 0 as roll, pitch and yaw."""
    return rpy_from_matrix(matrix_from_quat(values_Ln))


def rpy_of_wxyz(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """Quaternions (w, x, y, z) as roll, pitch and yaw."""
    return rpy_of_xyzw(xyzw(values_Ln))


def rpy_of_zxy(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """Turns about the fixed axes z, x and y, one after the other, as roll, pitch and yaw."""
    first, second, third = (values_Ln[:, i, None] * np.eye(3)[axis] for i, axis in enumerate((2, 0, 1)))
    turns = map(matrix_from_axis_angle, (third, second, first))
    return rpy_from_matrix(next(turns) @ next(turns) @ next(turns))


def change(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """How much values change up to the next step, [L - 1, n]."""
    return np.diff(values_Ln, axis=0)


def turn(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """How much angles change up to the next step, within +-pi, [L - 1, n]."""
    return (np.diff(values_Ln, axis=0) + np.pi) % (2 * np.pi) - np.pi


def drive(values_Ln: np.ndarray, ends=()) -> np.ndarray:
    """How far a vehicle at (x, y, yaw) goes ahead and to its left up to the next step, [L - 1, 2]."""
    ahead_lC, yaw_l = np.diff(values_Ln[:, :2], axis=0), values_Ln[:-1, 2]
    cosine, sine = np.cos(yaw_l), np.sin(yaw_l)
    forward = cosine * ahead_lC[:, 0] + sine * ahead_lC[:, 1]
    left = cosine * ahead_lC[:, 1] - sine * ahead_lC[:, 0]
    return np.stack([forward, left], axis=-1)


class Form(NamedTuple):
    """A standardiser.

    Attributes:
      function: (columns, ends) -> columns.
      widths: columns that it takes and gives; 0 for any number.
      ahead: whether it looks at the next step, so that an episode's last has no value.
    """

    function: object
    widths: tuple[int, int] = (0, 0)
    ahead: bool = False


FORMS = {
    "stored": Form(stored),
    "flipped": Form(flipped, (3, 3)),
    "opening": Form(opening, (1, 1)),
    "held": Form(held, (1, 1)),
    "rpy_of_xyzw": Form(rpy_of_xyzw, (4, 3)),
    "rpy_of_wxyz": Form(rpy_of_wxyz, (4, 3)),
    "rpy_of_zxy": Form(rpy_of_zxy, (3, 3)),
    "change": Form(change, ahead=True),
    "turn": Form(turn, ahead=True),
    "drive": Form(drive, (3, 2), ahead=True),
}


def text_of_codepoints(points_n: np.ndarray) -> bytes:
    """A text stored as numbers of characters, filled up with zeros, as UTF-8."""
    points = np.asarray(points_n).ravel()
    end = np.flatnonzero(points == 0)
    return "".join(map(chr, points[: end[0] if len(end) else None])).encode("utf-8", "replace")
