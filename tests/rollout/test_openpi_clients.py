"""Actions as openpi's clients take them."""

import dataclasses

import numpy as np
import pytest

from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.rollout.benchmarks import hand_action
from farsighted_jax.rollout.conventions import GRIPPERS, OURS
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.openpi_clients import actions_for


def joints(groups, *, delta):
    return ActionSpec(
        names=tuple(f"a{place}" for place in range(len(groups))),
        units=("1",) * len(groups),
        groups=groups,
        delta=tuple(delta and group != "gripper" for group in groups),
        frame="joint",
        rotation="none",
        hz=15,
    )


ARM = ("joint",) * 7 + ("gripper",)
TWO_ARMS = (("joint",) * 6 + ("gripper",)) * 2


def test_libero_gets_what_its_controller_takes():
    found = actions_for("libero", hand_action(20, "rpy", OURS))(np.array([[0.01, 0, -0.02, 0, 0, 0.25, 0.9]]))
    np.testing.assert_allclose(found, [[0.2, 0, -0.4, 0, 0, 0.5, -1]], atol=1e-6)


@pytest.mark.parametrize(
    ("layout", "spec", "gripper"),
    [
        ("droid", joints(ARM, delta=True), {7: 0.75}),
        ("roboarena", joints(ARM, delta=False), {7: 0.75}),
        ("roboarena", hand_action(15, "rpy", OURS), {6: 0.75}),
        ("roboarena", hand_action(15, "rpy", GRIPPERS["openpi"]), {6: 0.25}),
        ("aloha", joints(TWO_ARMS, delta=False), {6: 0.25, 13: 0.25}),
    ],
)
def test_only_grippers_are_changed(layout, spec, gripper):
    action = np.full((3, spec.width), 0.25)
    expected = action.copy()
    for place, value in gripper.items():
        expected[:, place] = value
    found = actions_for(layout, spec)(action)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize(
    ("layout", "spec", "told"),
    [
        ("libero", joints(ARM, delta=True), "are not a place, a rotation and a gripper"),
        ("droid", joints(TWO_ARMS, delta=True), "expected one of"),
        ("droid", joints(ARM, delta=False), "expected changes a step"),
        ("aloha", joints(TWO_ARMS, delta=True), "expected absolute"),
        ("aloha", joints(ARM, delta=False), "expected one of"),
        (
            "roboarena",
            dataclasses.replace(joints(ARM, delta=True), delta=(True, False) * 3 + (True, False)),
            "expected all of one kind",
        ),
    ],
)
def test_other_actions_are_refused(layout, spec, told):
    with pytest.raises(RolloutError, match=told):
        actions_for(layout, spec)
