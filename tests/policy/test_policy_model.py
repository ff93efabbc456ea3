"""The whole policy: stages equal one pass, what is missing has no influence, gradients go where they may."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from policy_cases import LAYOUT, normal, smaller
from random_weights import random_variables
from whole_policy import (
    CODE_VALID,
    CODES,
    FRAME_VALID,
    NUM_READINGS,
    POLICY,
    PROPRIO_VALID,
    TEXT_VALID,
    V,
    observation,
    readings,
    targets,
)

from farsighted_jax.core import tree
from farsighted_jax.policy.cot_head import VisionHead
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.plan_head import PlanHead


@pytest.fixture(scope="module")
def variables():
    return random_variables(POLICY, observation(), *targets().values())


@pytest.fixture(scope="module")
def run(variables):
    apply = jax.jit(POLICY.apply)
    return lambda seen, arguments: apply(variables, seen, **arguments)


@pytest.fixture(scope="module")
def gradient(variables):
    """Gradient of the weighted sum of all `readings` by all parameters."""

    def total(params, weights, seen, arguments):
        return weights @ readings(POLICY.apply({"params": params}, seen, **arguments))

    compiled = jax.jit(jax.grad(total))
    return lambda weights, seen, arguments: compiled(variables["params"], weights, seen, arguments)


def staged(policy, seen, arguments):
    cache = policy.begin(seen)
    cache, rgb, depth = policy.imagine(cache)
    cache, logit = policy.extend_plan(cache, arguments["code_BtZ"], arguments["code_valid_Bt"])
    condition = policy.condition(cache, seen.embodiment_B, arguments["plan_hidden_B"])
    rest = (
        seen.embodiment_B,
        arguments["action_valid_BJM"],
        cache.context_BSD,
        cache.context_valid_BS,
    )
    points = zip(*(arguments[name].swapaxes(0, 1) for name in ("noisy_BKJM", "time_BK")), strict=True)
    velocities = [policy.velocity(condition, *point, *rest) for point in points]
    return {
        "rgb_BHWC": rgb,
        "depth_BHW1": depth,
        "logit_BnV": logit,
        "velocity_BKJM": jnp.stack(velocities, axis=1),
        "gripper_BJM": policy.gripper(condition),
    }


def spoiled(seen, arguments, garbage):
    """With something else wherever nothing is valid."""

    def fill(value, valid):
        valid = valid.reshape(*valid.shape, *(1,) * (value.ndim - valid.ndim))
        return np.where(valid, value, np.asarray(garbage, value.dtype))

    seen = seen._replace(
        rgb_BRPHWC=fill(seen.rgb_BRPHWC, FRAME_VALID),
        depth_BRPHW1=np.where(
            seen.depth_valid_BRPHW1, fill(seen.depth_BRPHW1, FRAME_VALID), np.float32(garbage)
        ),
        token_BL=np.where(TEXT_VALID, seen.token_BL, 10**6).astype(np.int32),
        proprio_BI=fill(seen.proprio_BI, PROPRIO_VALID),
    )
    codes = np.where(CODE_VALID[..., None], CODES, 77).astype(np.int32)
    noisy = arguments["noisy_BKJM"]
    noisy = fill(noisy, np.broadcast_to(arguments["action_valid_BJM"][:, None], noisy.shape))
    return seen, arguments | {"code_BtZ": codes, "noisy_BKJM": noisy}


def test_stages_on_a_cache_equal_one_pass(variables, run):
    seen, arguments = observation(), targets(plan_hidden_B=np.array([False, True]))
    found = jax.jit(lambda *inputs: POLICY.apply(variables, *inputs, method=staged))(seen, arguments)
    wanted = run(seen, arguments)._asdict()
    for name, part in found.items():
        np.testing.assert_allclose(part, wanted[name], atol=1e-5, rtol=0, err_msg=name)
        assert np.abs(part).max() > 0.01, name


@pytest.mark.parametrize("garbage", [1e9, np.nan])
def test_garbage_in_what_is_missing_changes_no_bit_of_any_output(run, garbage):
    before, after = run(observation(), targets()), run(*spoiled(observation(), targets(), garbage))
    for name, part in before._asdict().items():
        np.testing.assert_array_equal(part, after._asdict()[name], err_msg=name)
        assert np.isfinite(part).all(), name


def test_garbage_changes_no_bit_of_any_gradient_and_every_parameter_has_one(gradient):
    weights = np.ones(NUM_READINGS, np.float32)
    clean = tree.flat_paths(gradient(weights, observation(), targets()))
    dirty = tree.flat_paths(gradient(weights, *spoiled(observation(), targets(), np.nan)))
    for path, leaf in clean.items():
        np.testing.assert_array_equal(leaf, dirty[path], err_msg=path)
        assert np.abs(leaf).max() > 1e-7, path


def test_codes_reach_what_comes_after_them_and_nothing_else(gradient):
    """Codes are whole numbers: it is the rows of their embedding that are differentiated by."""
    arguments = targets(code_valid_Bt=np.ones_like(CODE_VALID), plan_hidden_B=np.array([False, True]))
    one_each = np.eye(NUM_READINGS, dtype=np.float32)
    row_ZVD = [gradient(one, observation(), arguments)["plan_head"]["embedding"] for one in one_each]
    n = LAYOUT.num_codes
    slots = np.tile(np.arange(LAYOUT.slots), LAYOUT.transitions)
    for codes, hidden in zip(CODES, arguments["plan_hidden_B"], strict=True):
        by_code = np.abs(row_ZVD).max(axis=-1)[:, slots, codes.reshape(-1)]
        vision, plan, actions = by_code[0], by_code[1 : n + 1], by_code[n + 1 :]
        assert not np.any(vision)
        # Position i predicts z(i+1) and has seen z1..zi.
        before = np.tri(n, n, -1, bool)
        assert (plan[before] > 1e-6).all() and not np.any(plan[~before])
        assert not np.any(actions) if hidden else (actions > 1e-6).all()


def test_samples_do_not_mix(run):
    seen, arguments = observation(), targets(plan_hidden_B=np.array([True, False]))
    swapped = jax.tree.map(lambda part: part[::-1], (seen, arguments))
    for name, part in run(seen, arguments)._asdict().items():
        np.testing.assert_allclose(part, run(*swapped)._asdict()[name][::-1], atol=1e-5, err_msg=name)


def test_every_input_is_read(run):
    before = run(observation(), targets())
    seen = observation()
    for name in ("rgb_BRPHWC", "depth_BRPHW1", "proprio_BI"):
        after = run(seen._replace(**{name: getattr(seen, name) + 0.5}), targets())
        for part, changed in zip(before, after, strict=True):
            assert np.abs(part - changed).max() > 1e-4, name
    after = run(seen._replace(token_BL=seen.token_BL - 1), targets())
    assert all(np.abs(part - changed).max() > 1e-4 for part, changed in zip(before, after, strict=True))
    # A joint that is not there is no joint at zero.
    joint = seen._replace(proprio_BI=np.where(PROPRIO_VALID, seen.proprio_BI, 0))
    after = run(joint._replace(proprio_valid_BI=np.ones_like(PROPRIO_VALID)), targets())
    assert np.abs(before.rgb_BHWC - after.rgb_BHWC)[0].max() > 1e-4
    after = run(seen._replace(embodiment_B=np.zeros(2, np.int32)), targets())
    np.testing.assert_array_equal(before.logit_BnV, after.logit_BnV)
    assert np.abs(before.gripper_BJM - after.gripper_BJM).max() > 1e-3


def test_the_velocity_runs_the_action_head_alone(variables):
    """No other parameter is within reach, so no solver can run the transformer again."""
    arguments, seen = targets(), observation()
    condition = np.zeros((2, LAYOUT.chunk, POLICY.width), np.float32)
    context = np.zeros((2, 4, POLICY.width), np.float32), np.ones((2, 4), bool)
    noisy, time = arguments["noisy_BKJM"][:, 0], arguments["time_BK"][:, 0]
    moment = (noisy, time, seen.embodiment_B, arguments["action_valid_BJM"])
    head = {"params": {"action_head": variables["params"]["action_head"]}}
    shape = jax.eval_shape(lambda: POLICY.apply(head, condition, *moment, *context, method="velocity"))
    assert shape.shape == noisy.shape


def test_vision_queries_start_from_the_patch_of_the_present_frame_that_they_predict():
    """In a transformer that adds nothing yet, each patch's hidden state depends on that patch alone."""
    seen = observation()

    @functools.partial(jax.jit, static_argnums=1)
    def hidden(seen, vision_from_frame):
        policy = dataclasses.replace(
            POLICY, depth=0, vision_from_frame=vision_from_frame, num_keypoints=0, residual=False
        )
        return policy.init_with_output(jax.random.key(0), seen, *targets().values())[0].depth_BHW1

    rgb = seen.rgb_BRPHWC.copy()
    rgb[0, -1, 0, :, 6:] += 1  # the outer half of the right patch, so that the left one's neighbours stay
    changed = seen._replace(rgb_BRPHWC=rgb)
    before, after = (np.asarray(hidden(each, True)) for each in (seen, changed))
    moved = np.abs(after - before).max(axis=(1, 3))
    assert (moved[0, 4:] > 0).all() and not moved[0, :4].any() and not moved[1].any()
    np.testing.assert_array_equal(hidden(seen, False), hidden(changed, False))


def test_training_begins_near_a_copy_of_the_present_frame_and_any_code():
    hidden, frame = normal(0, 2, 6, 32), normal(1, 2, 8, 12, 3)
    head, key = VisionHead((2, 3), 4, residual=True), jax.random.key(0)
    rgb, depth, token = jax.jit(lambda *inputs: head.init_with_output(key, *inputs)[0])(hidden, frame)
    assert 1e-3 < np.abs(rgb - frame).max() < 0.1 < np.abs(depth).max() and token is None
    plan = PlanHead(2, V, 32)
    logits = jax.jit(lambda x: plan.init_with_output(key, x, method="logits")[0])(hidden[:, :5])
    assert logits.shape == (2, 4, V)
    assert abs(-jax.nn.log_softmax(logits).mean() - np.log(V)) < 0.05


@pytest.mark.parametrize(
    ("sizes", "absent"),
    [
        ({"vision_grid": (0, 0)}, {"rgb_BHWC", "depth_BHW1", "token_BNE"}),
        ({"transitions": 0}, {"logit_BnV"}),
        ({"chunk": 0}, {"velocity_BKJM", "gripper_BJM"}),
        ({"language": 0, "proprio": 0}, set()),
        ({"frames": 0, "vision_grid": (0, 0)}, {"rgb_BHWC", "depth_BHW1", "token_BNE"}),
    ],
)
def test_what_the_layout_lacks_is_none(sizes, absent):
    policy = dataclasses.replace(POLICY, layout=smaller(**sizes), dtype=jnp.bfloat16)
    outputs = jax.eval_shape(
        lambda seen: policy.init_with_output(jax.random.key(0), seen, *targets().values())[0], observation()
    )
    assert {name for name, part in outputs._asdict().items() if part is None} == absent
    assert {leaf.dtype for leaf in jax.tree.leaves(outputs)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("policy", "seen", "arguments", "message"),
    [
        (POLICY, {"token_BL": None}, {}, r"lacks \['token_BL'\], which this policy reads; it has \['rgb"),
        (POLICY, {"depth_BRPHW1": None}, {}, r"lacks \['depth_BRPHW1'\]"),
        (POLICY, {}, {"code_BtZ": None}, r"codes of the plan: expected int32\[B, 2, 2\], found None"),
        (POLICY, {}, {"code_BtZ": CODES[:, :1]}, r"expected int32\[B, 2, 2\], found \[2, 1, 2\]"),
        (POLICY, {}, {"code_valid_Bt": CODE_VALID[:, :1]}, r"expected bool\[2, 2\], found \[2, 1\]"),
        (POLICY, {}, {"noisy_BKJM": None}, r"reads .*, found none of \['noisy_BKJM'\]"),
        (dataclasses.replace(POLICY, patch=2), {}, {}, r"frames of 8 patches, expected a grid of \[1, 2\]"),
        (
            dataclasses.replace(POLICY, layout=smaller(vision_grid=(2, 1))),
            {},
            {},
            r"present frame: expected \[2, 8, 4, 3\], found \[2, 4, 8, 3\]",
        ),
    ],
)
def test_a_missing_or_misshapen_input_is_named(policy, seen, arguments, message):
    with pytest.raises(PolicyError, match=message):
        jax.eval_shape(
            lambda: policy.init(
                jax.random.key(0), observation()._replace(**seen), *targets(**arguments).values()
            )
        )


def test_a_stage_that_the_layout_lacks_is_refused(variables):
    cases = {
        "imagine": ({"vision_grid": (0, 0)}, ()),
        "extend_plan": ({"transitions": 0}, (CODES,)),
        "empty_plan": ({"transitions": 0}, ()),
        "condition": ({"chunk": 0}, (np.zeros(2, np.int32),)),
    }
    for method, (sizes, inputs) in cases.items():
        policy = dataclasses.replace(POLICY, layout=smaller(**sizes))

        def early(module, method=method, inputs=inputs):
            return getattr(module, method)(module.begin(observation()), *inputs)

        with pytest.raises(PolicyError, match="this policy has no"):
            jax.eval_shape(lambda policy=policy, early=early: policy.apply(variables, method=early))
