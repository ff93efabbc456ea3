"""Rotations between the forms that robots and simulators speak; angles in radians, any leading axes.

Every form goes through a matrix: `converted` is one of `FORMS` in and another out.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


def matrix_from_axis_angle(turn: np.ndarray) -> np.ndarray:
    """Rotation about the direction of float[..., 3] by its length (Rodrigues), float64[..., 3, 3]."""
    turn = np.asarray(turn, np.float64)
    angle = np.linalg.norm(turn, axis=-1)[..., None, None]
    x, y, z = np.moveaxis(turn, -1, 0)
    zero = np.zeros_like(x)
    cross = np.stack([zero, -z, y, z, zero, -x, -y, x, zero], axis=-1).reshape(*turn.shape, 3)
    # sin(a) / a and (1 - cos(a)) / a^2, also where a is 0.
    sine, cosine = np.sinc(angle / np.pi), np.sinc(angle / (2 * np.pi)) ** 2 / 2
    return np.eye(3) + sine * cross + cosine * (cross @ cross)


def axis_angle_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Inverse of `matrix_from_axis_angle`, float64[..., 3] of length at most pi."""
    return axis_angle_from_quat(quat_from_matrix(matrix))


def axis_angle_from_quat(quat: np.ndarray, *, shortest: bool = True) -> np.ndarray:
    """Axis times angle of a quaternion (x, y, z, w).

    Args:
      quat: float[..., 4], of any length but 0.
      shortest: turn by at most pi. Without it the angle is 2 acos(w), up to 2 pi, as robosuite has it and
        LIBERO's states are stored: its hand points down, an angle about pi, and does not jump there.

    Returns:
      float64[..., 3].
    """
    quat = _unit(quat)
    if shortest:
        quat = np.where(quat[..., 3:] < 0, -quat, quat)
    sine = np.linalg.norm(quat[..., :3], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, quat[..., 3:])
    # The limit of angle / sin(angle / 2) at 0 is 2; at 2 pi there is no axis, and nothing is turned.
    return quat[..., :3] * np.where(sine > 1e-9, angle / np.maximum(sine, 1e-9), 2.0)


def matrix_from_quat(quat: np.ndarray) -> np.ndarray:
    """Rotation of a quaternion (x, y, z, w) of any length but 0, float64[..., 3, 3]."""
    x, y, z, w = np.moveaxis(_unit(quat), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quat_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Quaternion (x, y, z, w) with w >= 0, float64[..., 4].

    It is the eigenvector of the largest eigenvalue of a symmetric 4 x 4 matrix (Bar-Itzhack, 2000), which
    has no special case at half a turn.
    """
    m = np.asarray(matrix, np.float64)
    a, b, c = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    xy, xz, yz = m[..., 0, 1] + m[..., 1, 0], m[..., 0, 2] + m[..., 2, 0], m[..., 1, 2] + m[..., 2, 1]
    xw, yw, zw = m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]
    rows = [
        [a - b - c, xy, xz, xw],
        [xy, b - a - c, yz, yw],
        [xz, yz, c - a - b, zw],
        [xw, yw, zw, a + b + c],
    ]
    symmetric = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
    quat = np.linalg.eigh(symmetric)[1][..., -1]
    return np.where(quat[..., 3:] < 0, -quat, quat)


def matrix_from_rpy(angles: np.ndarray) -> np.ndarray:
    """R = Rz(yaw) Ry(pitch) Rx(roll), turns about fixed axes, of float[..., 3]; float64[..., 3, 3]."""
    turns = np.asarray(angles, np.float64)[..., None] * np.eye(3)
    roll, pitch, yaw = (matrix_from_axis_angle(turns[..., axis, :]) for axis in range(3))
    return yaw @ pitch @ roll


def rpy_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Inverse of `matrix_from_rpy`, float64[..., 3], pitch within +-pi/2; there roll is taken as 0."""
    m = np.asarray(matrix, np.float64)
    level = np.hypot(m[..., 0, 0], m[..., 1, 0])
    pitch = np.arctan2(-m[..., 2, 0], level)
    roll = np.where(level > 1e-9, np.arctan2(m[..., 2, 1], m[..., 2, 2]), 0.0)
    yaw = np.where(
        level > 1e-9, np.arctan2(m[..., 1, 0], m[..., 0, 0]), np.arctan2(-m[..., 0, 1], m[..., 1, 1])
    )
    return np.stack([roll, pitch, yaw], axis=-1)


def matrix_from_6d(columns: np.ndarray) -> np.ndarray:
    """Rotation whose first two columns are float[..., 6], one after the other, made orthonormal.

    Zhou et al., 2019, eq. 15; float64[..., 3, 3].
    """
    first, second = np.split(np.asarray(columns, np.float64), 2, axis=-1)
    first = first / np.linalg.norm(first, axis=-1, keepdims=True)
    second = second - np.sum(first * second, axis=-1, keepdims=True) * first
    second = second / np.linalg.norm(second, axis=-1, keepdims=True)
    return np.stack([first, second, np.cross(first, second)], axis=-1)


def sixd_from_matrix(matrix: np.ndarray) -> np.ndarray:
    """Inverse of `matrix_from_6d`, float64[..., 6]."""
    m = np.asarray(matrix, np.float64)
    return np.concatenate([m[..., :, 0], m[..., :, 1]], axis=-1)


class _Form(NamedTuple):
    width: int
    to_matrix: object
    from_matrix: object


# Words of `core.spec.ROTATIONS`, but "none".
FORMS = {
    "rpy": _Form(3, matrix_from_rpy, rpy_from_matrix),
    "axis_angle": _Form(3, matrix_from_axis_angle, axis_angle_from_matrix),
    "quat_xyzw": _Form(4, matrix_from_quat, quat_from_matrix),
    "rot6d": _Form(6, matrix_from_6d, sixd_from_matrix),
}


def converted(rotation: np.ndarray, source: str, target: str) -> np.ndarray:
    """The same rotation in another of `FORMS`; unchanged where both are the same."""
    if source == target:
        return np.asarray(rotation, np.float64)
    return FORMS[target].from_matrix(FORMS[source].to_matrix(rotation))


def xyzw(quat_wxyz: np.ndarray) -> np.ndarray:
    """A quaternion stored as (w, x, y, z), as ManiSkill has it, as (x, y, z, w)."""
    return np.roll(np.asarray(quat_wxyz), -1, axis=-1)


def _unit(quat):
    quat = np.asarray(quat, np.float64)
    return quat / np.linalg.norm(quat, axis=-1, keepdims=True)
