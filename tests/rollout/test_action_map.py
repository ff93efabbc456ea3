"""A policy's actions as a simulator takes them: units, rotation, gripper; what cannot be said is refused."""

import dataclasses

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from data_pipelines.oxe.registry import spec_for
from farsighted_jax.rollout.action_map import action_map
from farsighted_jax.rollout.benchmarks import BENCHMARKS, LIBERO_ACTION, hand_action
from farsighted_jax.rollout.conventions import CONTROLLERS, GRIPPERS, OURS
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.metaworld import dataset_spec

METRIC = hand_action(20, "rpy", OURS)
CALVIN = BENCHMARKS["calvin"]


def test_commands_stay_commands_and_the_gripper_changes_sides():
    standard = dataclasses.replace(LIBERO_ACTION, gripper_open=1.0, gripper_closed=0.0)
    to_libero = action_map(standard, LIBERO_ACTION, controller=CONTROLLERS["libero"])
    chunk = np.float32([[0.25, -1, 0.5, 0.1, -0.3, 1, 0.9], [0, 0.7, 2, 0, 0, -3, 0.1]])
    mapped = to_libero(chunk)
    assert mapped.dtype == np.float32
    np.testing.assert_allclose(mapped[:, :6], np.clip(chunk[:, :6], -1, 1), atol=1e-6)
    assert mapped[:, 6].tolist() == [-1, 1], "robosuite: -1 opens, 1 closes"


def test_metres_and_angles_become_commands_of_the_controller():
    to_libero = action_map(METRIC, LIBERO_ACTION, controller=CONTROLLERS["libero"])
    angles = np.array([0.1, -0.2, 0.15])
    mapped = to_libero(np.array([0.02, -0.2, 0.01, *angles, 0.0]))
    np.testing.assert_allclose(mapped[:3], [0.4, -1, 0.2], atol=1e-6)
    rotation = Rotation.from_euler("xyz", angles).as_rotvec()
    np.testing.assert_allclose(mapped[3:6], rotation / 0.5, atol=1e-6)
    assert mapped[6] == 1


def test_bridge_on_simplerenvs_widowx():
    to_simpler = BENCHMARKS["simpler-widowx"].actions_of(spec_for("bridge_dataset").action)
    action = np.array([0.01, 0.02, -0.03, 0.3, 0.4, -0.5, 0.8])
    mapped = to_simpler(action)
    np.testing.assert_allclose(mapped[:3], action[:3], atol=1e-7)
    turn = Rotation.from_euler("xyz", action[3:6]).as_rotvec()
    np.testing.assert_allclose(mapped[3:6], turn, atol=1e-6)
    assert mapped[6] == 1


def test_calvins_relative_actions_are_metres_again_and_the_gripper_is_one_of_two():
    relative = hand_action(30, "rpy", GRIPPERS["calvin"], units=("1", "1"), frame="world")
    mapped = CALVIN.actions_of(relative)(np.array([0.5, -1, 2, 0.4, 1, -0.2, 0.3]))
    np.testing.assert_allclose(mapped[:3], [0.01, -0.02, 0.02], atol=1e-7)
    np.testing.assert_allclose(mapped[3:6], [0.02, 0.05, -0.01], atol=1e-7)
    assert mapped[6] == 1
    assert CALVIN.actions_of(relative)(np.full(7, -0.1))[6] == -1


def test_other_forms_of_a_rotation_are_read():
    sixd = dataclasses.replace(
        METRIC,
        names=tuple("xyzabcdefg"),
        units=("m",) * 3 + ("1",) * 7,
        groups=("translation",) * 3 + ("rotation",) * 6 + ("gripper",),
        delta=(True,) * 9 + (False,),
        rotation="rot6d",
        hz=5,
    )
    turn = Rotation.from_rotvec([0.1, 0.2, -0.3])
    columns = turn.as_matrix()[:, :2].T.ravel()
    mapped = BENCHMARKS["simpler-widowx"].actions_of(sixd)(np.array([0, 0, 0, *columns, 1]))
    np.testing.assert_allclose(mapped[3:6], turn.as_rotvec(), atol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"hz": 10}, "come at 10 Hz, not 30"),
        ({"frame": "tool"}, "are in the frame 'tool'"),
        ({"delta": (False,) * 7}, "are not changes a step"),
        ({"delta": (True,) * 7}, "with an absolute gripper"),
        ({"rotation": "axis_angle"}, "turn by 'axis_angle', where only 'rpy' will do"),
        ({"rotation": "none"}, "are not a place, a rotation and a gripper"),
        ({"units": ("px",) * 3 + ("rad",) * 3 + ("1",)}, r"in \['px'\]: how many metres is not known"),
        ({"units": ("m", "m", "cm") + ("rad",) * 3 + ("1",)}, r"in \['cm', 'm'\]: how many metres"),
    ],
)
def test_what_cannot_be_said_is_refused(change, told):
    with pytest.raises(RolloutError, match=told):
        CALVIN.actions_of(dataclasses.replace(METRIC, **{"hz": 30, **change}))


def test_commands_of_an_unknown_controller_and_another_robot_are_refused():
    unknown = hand_action(5, "axis_angle", OURS, units=("1", "1"))
    with pytest.raises(RolloutError, match="how many metres is not known"):
        BENCHMARKS["simpler-widowx"].actions_of(unknown)
    arm = dataset_spec("metaworld").action
    with pytest.raises(RolloutError, match="are not a place, a rotation and a gripper"):
        action_map(arm, METRIC)
    with pytest.raises(RolloutError, match="not of one hand"):
        action_map(METRIC, arm)


def test_actions_of_another_width_are_refused():
    with pytest.raises(RolloutError, match="actions of 6 numbers"):
        CALVIN.actions_of(dataclasses.replace(METRIC, hz=30))(np.zeros((2, 6)))
