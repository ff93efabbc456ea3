"""Chunks of several robots: which dimensions are whose."""

import jax
import numpy as np
import pytest

from farsighted_jax.core.spec import ActionSpec, SpecError
from farsighted_jax.policy.action_space import ActionSpaces, padded, with_gripper


def spec(*groups):
    num = len(groups)
    return ActionSpec(
        names=tuple(f"a{i}" for i in range(num)),
        units=("1",) * num,
        groups=groups,
        delta=(True,) * num,
        frame="base",
        rotation="none",
        hz=5.0,
    )


ARM = spec("translation", "translation", "gripper")
TWO_ARMS = spec("joint", "gripper", "joint", "gripper", "other")
SPECS = (ARM, None, TWO_ARMS)


def test_masks_are_those_of_each_dataset():
    spaces = ActionSpaces(SPECS)
    assert spaces.width == 5
    np.testing.assert_array_equal(spaces.real(), [[1, 1, 1, 0, 0], [0] * 5, [1] * 5])
    np.testing.assert_array_equal(spaces.gripper(), [[0, 0, 1, 0, 0], [0] * 5, [0, 1, 0, 1, 0]])
    dataset = np.array([2, 0, 1, 0, -1, 3], np.int32)
    flow = spaces.flow_dimensions(dataset)
    assert flow.shape == (6, 1, 5) and flow.dtype == bool
    np.testing.assert_array_equal(flow[:4, 0], spaces.real()[dataset[:4]])
    assert not np.any(flow[4:])
    assert not np.any(spaces.gripper_dimensions(dataset))


def test_a_discrete_gripper_splits_the_dimensions_in_two():
    spaces = ActionSpaces(SPECS, width=6, discrete_gripper=True)
    dataset = np.array([0, 1, 2], np.int32)
    flow, gripper = jax.jit(lambda d: (spaces.flow_dimensions(d), spaces.gripper_dimensions(d)))(dataset)
    assert not np.any(flow & gripper)
    np.testing.assert_array_equal((flow | gripper)[:, 0], spaces.real())
    np.testing.assert_array_equal(gripper[:, 0], spaces.gripper())


@pytest.mark.parametrize(
    ("specs", "width", "message"),
    [
        ((None, None), 0, r"none of 2 dataset\(s\)"),
        ((), 0, r"none of 0 dataset\(s\)"),
        (SPECS, 4, "width: 4, expected at least 5"),
    ],
)
def test_what_does_not_fit_is_an_error(specs, width, message):
    with pytest.raises(SpecError, match=message):
        ActionSpaces(specs, width)


def test_padding_adds_zeros_behind_and_refuses_to_cut():
    chunk = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    wide = padded(chunk, 5)
    assert wide.shape == (2, 4, 5) and wide.dtype == np.float32
    np.testing.assert_array_equal(wide[..., :3], chunk)
    assert not np.any(wide[..., 3:])
    with pytest.raises(SpecError, match=r"\(2, 4, 3\) do not fit into 2"):
        padded(chunk, 2)


def test_the_gripper_opens_where_its_logit_is_positive_and_nothing_else_changes():
    action = np.random.default_rng(0).normal(size=(2, 4, 3)).astype(np.float32)
    logit = np.random.default_rng(1).normal(size=(2, 4, 3)).astype(np.float32)
    gripper = np.zeros((2, 1, 3), bool)
    gripper[0, 0, 2] = True
    out = with_gripper(action, logit, gripper)
    np.testing.assert_array_equal(out[0, :, 2], logit[0, :, 2] > 0)
    np.testing.assert_array_equal(out[0, :, :2], action[0, :, :2])
    np.testing.assert_array_equal(out[1], action[1])
