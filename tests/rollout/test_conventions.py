"""What benchmarks do differently, each by the numbers that their own code or data has."""

import numpy as np
import pytest

from farsighted_jax.core.spec import CameraSpec
from farsighted_jax.rollout import conventions
from farsighted_jax.rollout.conventions import CONTROLLERS, GRIPPERS, OURS, gripper


@pytest.mark.parametrize(
    ("name", "open_", "closed"),
    [
        ("libero", -1, 1),
        ("calvin", 1, -1),
        ("simpler_widowx", 1, -1),
        ("simpler_google", -1, 1),
        ("openpi", 0, 1),
    ],
)
def test_an_open_gripper_is_open_everywhere(name, open_, closed):
    assert gripper(np.array([1.0, 0.0]), OURS, GRIPPERS[name]).tolist() == [open_, closed]
    assert gripper(np.array([open_, closed]), GRIPPERS[name], OURS).tolist() == [1, 0]
    half = gripper(np.array(0.3), OURS, GRIPPERS[name])
    assert gripper(half, GRIPPERS[name], OURS) == pytest.approx(0.3)


def test_a_binary_gripper_has_two_ends_and_nothing_goes_beyond_them():
    value = np.array([-0.5, 0.2, 0.5, 0.51, 1.7])
    assert gripper(value, OURS, GRIPPERS["calvin"], binary=True).tolist() == [-1, -1, -1, 1, 1]
    assert gripper(value, OURS, GRIPPERS["libero"])[[0, 4]].tolist() == [1, -1]


def test_calvins_relative_actions_are_scaled_by_50_and_20_and_clipped():
    move = np.array([0.01, -0.02, 0.03, 0.02, -0.05, 0.1])
    command = conventions.commanded(move, CONTROLLERS["calvin"])
    np.testing.assert_allclose(command, [0.5, -1, 1, 0.4, -1, 1], atol=1e-12)
    # calvin_env turns them back by 0.02 m and 0.05 rad.
    back = conventions.moved(command, CONTROLLERS["calvin"])
    np.testing.assert_allclose(back, [0.01, -0.02, 0.02, 0.02, -0.05, 0.05], atol=1e-12)


def test_liberos_controller_goes_5_cm_and_half_a_radian():
    assert conventions.moved(np.ones(6), CONTROLLERS["libero"]).tolist() == [0.05] * 3 + [0.5] * 3
    inside = np.random.default_rng(0).uniform(-1, 1, (4, 6))
    there = conventions.moved(inside, CONTROLLERS["libero"])
    np.testing.assert_allclose(conventions.commanded(there, CONTROLLERS["libero"]), inside, atol=1e-12)


def test_a_turn_by_180_degrees_is_its_own_inverse_and_no_flip():
    image = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    turned = conventions.turned(image)
    np.testing.assert_array_equal(turned, np.rot90(image, 2))
    np.testing.assert_array_equal(conventions.turned(turned), image)
    assert turned.flags["C_CONTIGUOUS"]
    upside_down = CameraSpec("primary", "image", rotate_180=True)
    np.testing.assert_array_equal(conventions.as_stored(image, upside_down), turned)
    assert conventions.as_stored(image, CameraSpec("primary", "image")) is image


def test_a_depth_buffer_in_metres():
    near, far = 0.01, 50.0
    depth = np.array([[near, 0.5], [2.0, 40.0]])
    # The projection of OpenGL: what a distance becomes in the buffer.
    buffer = (1 / near - 1 / depth) / (1 / near - 1 / far)
    np.testing.assert_allclose(conventions.metres(buffer, near, far), depth, rtol=1e-6)
    # PyBullet's formula, which CALVIN's cameras use, is the same one.
    np.testing.assert_allclose(
        conventions.metres(buffer, near, far), far * near / (far - (far - near) * buffer), rtol=1e-6
    )
    assert conventions.metres(np.ones((1, 1)), near, far)[0, 0] == np.inf


def test_liberos_state_at_its_first_step():
    # Of libero_spatial, task 0, initial state 0, after ten steps at rest.
    quat = [0.999609615, -0.000906336483, -0.0279235845, -0.000264635271]
    state = conventions.libero_state([-0.2112, -0.0111, 1.1742], quat, [0.0387, -0.0387])
    assert state.dtype == np.float32
    np.testing.assert_allclose(state[:3], [-0.2112, -0.0111, 1.1742], atol=1e-6)
    np.testing.assert_allclose(state[3:6], [3.14089542, -0.00284782, -0.0877391], atol=1e-5)
    np.testing.assert_allclose(state[6:], [0.0387, -0.0387], atol=1e-6)


def test_the_hand_of_bridge_points_down_where_it_does_not_turn():
    # In the robot's base a hand that points down is turned by a quarter about y.
    down = [np.sqrt(0.5), 0, np.sqrt(0.5), 0]
    state = conventions.bridge_state([0.1, 0.2, 0.3, *down, 0.8])
    np.testing.assert_allclose(state, [0.1, 0.2, 0.3, 0, 0, 0, 0.8], atol=1e-6)
    # A turn of the base about the vertical is the yaw of both.
    yaw = [np.cos(0.2), 0, 0, np.sin(0.2)]
    turned = [yaw[0] * down[0], -yaw[3] * down[2], yaw[0] * down[2], yaw[3] * down[0]]
    np.testing.assert_allclose(conventions.bridge_state([0, 0, 0, *turned, 1])[3:6], [0, 0, 0.4], atol=1e-6)


def test_the_google_robot_counts_how_far_it_is_closed():
    state = conventions.fractal_state([0.1, 0.2, 0.3, 0.5, 0.1, 0.2, 0.3, 0.8])
    np.testing.assert_allclose(state, [0.1, 0.2, 0.3, 0.1, 0.2, 0.3, 0.5, 0.2], atol=1e-6)
