"""Rotations: scipy says the same, every pair of forms goes there and back, half a turn is no exception."""

import itertools

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from farsighted_jax.core import rotations
from farsighted_jax.core.rotations import FORMS, converted

# Small and large angles, half a turn about each axis, none, and the hand of LIBERO at its first step.
TURNS = np.concatenate(
    [
        np.random.default_rng(0).normal(size=(40, 3)),
        1e-7 * np.eye(3),
        np.pi * np.eye(3),
        np.zeros((1, 3)),
        Rotation.from_quat([[0.99961, -0.000906, -0.027924, -0.000265]]).as_rotvec(),
    ]
)
REFERENCE = Rotation.from_rotvec(TURNS)
EXPECTED = {
    "rpy": REFERENCE.as_euler("xyz"),
    "axis_angle": TURNS,
    "quat_xyzw": REFERENCE.as_quat(),
    "rot6d": REFERENCE.as_matrix()[..., :2].swapaxes(1, 2).reshape(-1, 6),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_means_what_scipy_says(form):
    assert EXPECTED[form].shape[-1] == FORMS[form].width
    np.testing.assert_allclose(FORMS[form].to_matrix(EXPECTED[form]), REFERENCE.as_matrix(), atol=1e-9)


@pytest.mark.parametrize(("source", "target"), list(itertools.product(FORMS, FORMS)))
def test_every_form_goes_there_and_back(source, target):
    there = converted(EXPECTED[source], source, target)
    np.testing.assert_allclose(FORMS[target].to_matrix(there), REFERENCE.as_matrix(), atol=1e-9)
    back = FORMS[source].to_matrix(converted(there, target, source))
    np.testing.assert_allclose(back, REFERENCE.as_matrix(), atol=1e-9)


def test_leading_axes_are_kept_and_a_gimbal_lock_has_no_roll():
    turn = EXPECTED["axis_angle"][:6].reshape(2, 3, 3)
    assert converted(turn, "axis_angle", "quat_xyzw").shape == (2, 3, 4)
    assert converted(turn[0, 0], "axis_angle", "rpy").shape == (3,)
    locked = np.array([[0.3, np.pi / 2, -0.4], [0.3, -np.pi / 2, 0.2]])
    again = converted(converted(locked, "rpy", "rot6d"), "rot6d", "rpy")
    np.testing.assert_allclose(
        rotations.matrix_from_rpy(again), Rotation.from_euler("xyz", locked).as_matrix(), atol=1e-9
    )
    assert (again[:, 0] == 0).all()


def robosuite_axis_angle(quat):
    """As robosuite's transform_utils computes it: 2 acos(w) about the axis."""
    angle = 2 * np.arccos(quat[3])
    return quat[:3] * angle / np.sqrt(1 - quat[3] ** 2)


@pytest.mark.parametrize("w", [0.02, -0.02])
def test_the_angle_of_a_hand_that_points_down_does_not_jump(w):
    quat = np.array([np.sqrt(1 - w * w), 0, 0, w])
    long, short = (rotations.axis_angle_from_quat(quat, shortest=s) for s in (False, True))
    np.testing.assert_allclose(long, robosuite_axis_angle(quat), atol=1e-12)
    np.testing.assert_allclose(long, [np.pi - 2 * np.arcsin(w), 0, 0], atol=1e-12)
    assert np.sign(short[0]) == np.sign(w)


def test_no_turn_has_no_axis():
    for quat in ([0, 0, 0, 1.0], [0, 0, 0, -1.0]):
        for shortest in (True, False):
            turn = rotations.axis_angle_from_quat(np.array(quat), shortest=shortest)
            assert np.abs(turn).max() < 1e-12


def test_the_order_of_a_quaternion():
    assert rotations.xyzw(np.array([1, 2, 3, 4])).tolist() == [2, 3, 4, 1]
