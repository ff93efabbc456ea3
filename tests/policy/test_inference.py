"""A policy at inference: stages equal one pass, each runs once, the solver never runs the transformer."""

import dataclasses

import jax
import numpy as np
import pytest
from policy_cases import LAYOUT, smaller
from random_weights import random_variables
from whole_policy import CODE_VALID, CODES, POLICY, B, J, M, V, observation, targets

from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.policy.action_space import ActionSpaces
from farsighted_jax.policy.calls import calls_of
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.inference import LatentPolicy, Ongoing, Stages
from farsighted_jax.policy.inputs import Inputs
from farsighted_jax.policy.objective import Objective
from farsighted_jax.policy.task import FlowSettings, PolicyTask

NAMES = tuple("xyzabcg")
SPEC = ActionSpec(NAMES, ("1",) * M, ("other",) * 6 + ("gripper",), (True,) * M, "base", "none", 5.0)
NARROW = ActionSpec(NAMES[:2], ("1",) * 2, ("other",) * 2, (True,) * 2, "base", "none", 5.0)
KEY = jax.random.key(3)


def task_of(policy=POLICY, num_steps=3, solver="euler"):
    inputs = Inputs("patch", "own", reads_depth=True, reads_proprio=True, stored_codes=True)
    spaces = ActionSpaces((SPEC, NARROW, SPEC), discrete_gripper=policy.discrete_gripper)
    return PolicyTask(Objective(policy, inputs, spaces=spaces), FlowSettings(num_steps, solver))


@pytest.fixture(scope="module")
def batch():
    seen = observation()
    return {
        "history_rgb": np.rint(255 * seen.rgb_BRPHWC).astype(np.uint8),
        "history_valid": seen.frame_valid_BRP,
        "history_depth": seen.depth_BRPHW1,
        "history_depth_valid": seen.depth_valid_BRPHW1,
        "text": seen.token_BL,
        "text_valid": seen.text_valid_BL,
        "proprio": seen.proprio_BI,
        "proprio_valid": seen.proprio_valid_BI,
        "dataset": seen.embodiment_B,
        "frame_valid": np.ones((B, LAYOUT.transitions + 1), bool),
        "code": CODES,
        "code_valid": CODE_VALID,
    }


@pytest.fixture(scope="module")
def params():
    return random_variables(POLICY, observation(), *targets().values())["params"]


@pytest.fixture(scope="module")
def policy(params):
    return LatentPolicy(task_of(), params)


@pytest.fixture(scope="module")
def one_pass(params):
    """Vision and logits of `Policy.__call__` for given codes."""
    apply = jax.jit(POLICY.apply)

    def outputs(batch, code, code_valid):
        seen = task_of().observation(params, batch)
        arguments = targets(code_BtZ=code, code_valid_Bt=code_valid)
        return apply({"params": params}, seen, *arguments.values())

    return outputs


def test_the_plan_under_teacher_forcing_is_that_of_one_pass(policy, one_pass, batch):
    found, expected = policy.logits(batch), one_pass(batch, CODES, CODE_VALID)
    assert found["logit"].shape == (B, LAYOUT.num_codes, V)
    valid_Bn = np.repeat(CODE_VALID, LAYOUT.slots, axis=1)
    wanted = np.asarray(expected.logit_BnV)[valid_Bn]
    np.testing.assert_allclose(np.asarray(found["logit"])[valid_Bn], wanted, atol=1e-4)
    np.testing.assert_array_equal(found["code"], CODES)
    np.testing.assert_array_equal(found["code_valid"], CODE_VALID)


def test_a_greedy_plan_takes_the_likeliest_code_at_every_place(policy, one_pass, batch):
    found = policy.plan(batch)
    code_BtZ = np.asarray(found["code"])
    np.testing.assert_array_equal(np.argmax(found["logit"], axis=-1), code_BtZ.reshape(B, -1))
    expected = one_pass(batch, code_BtZ, np.ones_like(CODE_VALID)).logit_BnV
    np.testing.assert_allclose(found["logit"], expected, atol=1e-4)
    log_prob_BnV = jax.nn.log_softmax(expected)
    chosen = np.take_along_axis(np.asarray(log_prob_BnV), code_BtZ.reshape(B, -1, 1), axis=-1)
    np.testing.assert_allclose(found["log_prob"], chosen.sum(axis=(1, 2)), atol=1e-4)


def test_the_imagined_frame_is_that_of_one_pass_within_bounds(policy, one_pass, batch):
    found, expected = policy.imagined(batch), one_pass(batch, CODES, CODE_VALID)
    np.testing.assert_allclose(found["rgb"], np.clip(expected.rgb_BHWC, 0, 1), atol=1e-4)
    np.testing.assert_allclose(found["depth"], expected.depth_BHW1, atol=1e-4)


def test_actions_follow_key_and_action_space(policy, batch):
    first, again = policy.actions(batch, KEY), policy.actions(batch, KEY)
    np.testing.assert_array_equal(first, again)
    assert first.shape == (B, J, M)
    other = np.asarray(policy.actions(batch, jax.random.key(4)))
    assert (np.abs(other - first)[0, :, :6] > 0).all()
    # Sample 1 is of the narrow robot, and the gripper of sample 0 is open or closed.
    assert not np.asarray(first)[1, :, 2:].any() and set(np.unique(first[0, :, 6])) <= {0.0, 1.0}


def test_a_future_that_is_not_known_yet_changes_no_action(policy, batch):
    unknown = {**batch, "code": np.full_like(CODES, V + 3), "code_valid": ~CODE_VALID}
    np.testing.assert_array_equal(policy.actions(unknown, KEY), policy.actions(batch, KEY))


def test_each_group_runs_once_and_the_solver_runs_the_action_head_alone(params, batch):
    # Context, vision and action once each, the plan once for BOS and once for every code.
    once = 3 + LAYOUT.num_codes + 1
    for num_steps, solver, velocities in ((7, "euler", 7), (3, "heun", 6)):
        stages = Stages(task_of(num_steps=num_steps, solver=solver))
        counted = calls_of(stages.actions, params, batch, KEY)
        assert counted == {"backbone": once, "action_head": velocities}, (num_steps, solver)


def test_a_chunk_goes_on_from_what_is_being_executed(policy, params, batch):
    plain = np.asarray(policy.actions(batch, KEY))
    known = np.random.default_rng(7).normal(size=(B, J, M)).astype(np.float32)
    # The other gripper than it would choose; of sample 1 nothing is known.
    known[..., 6] = 1 - plain[..., 6]
    ongoing = Ongoing(known, np.array([1, 0], np.int32), np.array([J, 0], np.int32))
    out = np.asarray(policy.actions(batch, KEY, ongoing))
    np.testing.assert_array_equal(out[0, :1], known[0, :1])
    np.testing.assert_array_equal(out[0, 1:, 6], plain[0, 1:, 6])
    assert (np.abs(out[0, 1:, :6] - plain[0, 1:, :6]).max(0) > 1e-3).all()
    np.testing.assert_allclose(out[1], plain[1], atol=1e-5)
    stages = Stages(task_of(num_steps=4))
    once = 3 + LAYOUT.num_codes + 1
    counted = calls_of(stages.actions, params, batch, KEY, ongoing)
    assert counted == {"backbone": once, "action_head": 4}


def test_a_policy_without_vision_and_plan_acts_and_says_what_it_lacks(batch):
    layout = smaller(vision_grid=(0, 0), transitions=0, slots=0)
    plain = dataclasses.replace(POLICY, layout=layout, discrete_gripper=False, action_context=False)
    arguments = targets(code_BtZ=None, code_valid_Bt=None, plan_hidden_B=None)
    params = random_variables(plain, observation(), *arguments.values())["params"]
    policy = LatentPolicy(task_of(plain), params)
    assert policy.groups == ("context", "action")
    assert np.isfinite(policy.actions(batch, KEY)).all()
    with pytest.raises(PolicyError, match="no 'plan'"):
        policy.plan(batch)
    with pytest.raises(PolicyError, match="no 'vision'"):
        policy.imagined(batch)
