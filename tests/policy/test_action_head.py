"""The flow-matching action head: shapes, masks, gradients, sizes."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.losses.flow import velocity_error
from farsighted_jax.policy.action_head import VARIANTS, ActionHead, GripperHead
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, spec_for

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "action_heads.json"

B, J, M, E, S = 3, 4, 5, 6, 7
HEAD = ActionHead(width=8, depth=2, num_heads=2, action_width=M, num_embodiments=3)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.fixture(scope="module")
def inputs():
    valid = np.ones((B, J, M), bool)
    valid[0, :, 3:] = False  # a narrower robot
    valid[1, 2:] = False  # past the end of its episode
    context_valid = np.ones((B, S), bool)
    context_valid[:, 4:] = False
    return {
        "noisy_BJM": normal(0, B, J, M),
        "time_B": np.array([0.1, 0.4, 0.9], np.float32),
        "condition_BJE": normal(1, B, J, E),
        "embodiment_B": np.array([0, 2, 1], np.int32),
        "valid_BJM": valid,
        "context_BSE": normal(2, B, S, 2 * E),
        "context_valid_BS": context_valid,
    }


@pytest.fixture(scope="module")
def head(inputs):
    """(params, jitted head) with random weights, so that no gate is zero."""
    shapes = jax.eval_shape(lambda: HEAD.init(jax.random.key(0), **inputs))["params"]
    params = jax.tree.map(lambda leaf: normal(leaf.size, *leaf.shape) / 3, shapes)
    return params, jax.jit(lambda inputs: HEAD.apply({"params": params}, **inputs))


@pytest.fixture(scope="module")
def gradients(head, inputs):
    """(jitted loss and its gradients to parameters and floating-point inputs, its arguments)."""
    floats = {name: x for name, x in inputs.items() if x.dtype == np.float32}

    @jax.jit
    def of(params, floats, target, valid):
        def loss(params, floats):
            velocity = HEAD.apply({"params": params}, **inputs | floats | {"valid_BJM": valid})
            return velocity_error(velocity, target, valid)[0]

        return jax.value_and_grad(loss, argnums=(0, 1))(params, floats)

    return of, head[0], floats, normal(3, B, J, M)


def test_velocity_is_float32_and_starts_at_zero(inputs):
    start, _ = jax.jit(lambda: HEAD.init_with_output(jax.random.key(0), **inputs))()
    assert start.shape == (B, J, M) and start.dtype == jnp.float32
    assert not np.any(start)
    low = ActionHead(8, 2, 2, M, 3, dtype=jnp.bfloat16)
    out, _ = jax.eval_shape(lambda: low.init_with_output(jax.random.key(0), **inputs))
    assert out.dtype == jnp.float32


def test_what_is_not_valid_changes_no_bit(head, inputs):
    _, run = head
    valid = inputs["valid_BJM"]
    before = run(inputs)
    assert not np.any(before[~valid])
    assert (np.abs(before)[valid] > 1e-6).all()
    for garbage in (1e20, np.nan):
        spoiled = inputs | {
            "noisy_BJM": np.where(valid, inputs["noisy_BJM"], np.float32(garbage)),
            "context_BSE": np.where(
                inputs["context_valid_BS"][..., None], inputs["context_BSE"], np.float32(garbage)
            ),
        }
        np.testing.assert_array_equal(before, run(spoiled))


def test_steps_past_the_end_are_seen_by_no_other(head, inputs):
    _, run = head
    shorter = {name: x[1:2, :2] if name.endswith("M") else x[1:2] for name, x in inputs.items()}
    # The condition stays: its queries exist whether or not there is an action to learn.
    out = run(shorter)
    np.testing.assert_allclose(run(inputs)[1, :2], out[0], atol=1e-5)


def test_a_sample_without_any_action_is_finite_and_touches_no_gradient(gradients):
    of, *arguments = gradients
    value, to = of(*arguments, np.zeros((B, J, M), bool))
    assert value == 0
    assert all(np.isfinite(leaf).all() and not np.any(leaf) for leaf in jax.tree.leaves(to))


def test_the_gradient_reaches_every_input_and_parameter(gradients, inputs):
    of, *arguments = gradients
    _, (to_params, to_inputs) = of(*arguments, inputs["valid_BJM"])
    assert all(np.any(leaf) for leaf in jax.tree.leaves(to_params))
    assert (np.abs(to_inputs["condition_BJE"]).max(-1) > 1e-6).all()
    assert (np.abs(to_inputs["time_B"]) > 1e-6).all()
    reached = np.abs(to_inputs["context_BSE"]).max(-1) > 1e-6
    np.testing.assert_array_equal(reached, inputs["context_valid_BS"])
    np.testing.assert_array_equal(np.abs(to_inputs["noisy_BJM"]) > 1e-8, inputs["valid_BJM"])


def test_garbage_that_is_not_valid_changes_no_bit_of_loss_and_gradient(gradients, inputs):
    of, params, floats, target = gradients
    valid = inputs["valid_BJM"]
    noisy = np.where(valid, floats["noisy_BJM"], np.float32(np.nan))
    target_spoiled = np.where(valid, target, np.float32(np.inf))
    clean = of(params, floats, target, valid)
    spoiled = of(params, floats | {"noisy_BJM": noisy}, target_spoiled, valid)
    jax.tree.map(np.testing.assert_array_equal, clean, spoiled)


def test_the_embodiment_is_read_and_an_unknown_one_is_no_other(head, inputs):
    _, run = head
    before = run(inputs)
    other = run(inputs | {"embodiment_B": np.array([1, 2, 1], np.int32)})
    assert np.abs(before - other)[0].max() > 1e-4
    np.testing.assert_array_equal(before[1:], other[1:])
    unknown = run(inputs | {"embodiment_B": np.array([3, 2, 1], np.int32)})
    assert np.isnan(unknown[0][inputs["valid_BJM"][0]]).all()


def test_samples_do_not_see_each_other(head, inputs):
    _, run = head
    order = np.array([2, 0, 1])
    permuted = run({name: x[order] for name, x in inputs.items()})
    np.testing.assert_allclose(run(inputs)[order], permuted, atol=1e-6)


def test_another_action_width_is_an_error(inputs):
    wider = inputs | {"noisy_BJM": normal(0, B, J, M + 1)}
    with pytest.raises(ValueError, match="have 6 dimensions, expected action_width = 5"):
        jax.eval_shape(lambda: HEAD.init(jax.random.key(0), **wider))


def test_the_gripper_head_reads_the_condition(inputs):
    @jax.jit
    def of(condition):
        logit, variables = GripperHead(M).init_with_output(jax.random.key(0), condition)
        return logit, jax.grad(lambda c: GripperHead(M).apply(variables, c)[0, 1, 4])(condition)

    logit, to_condition = map(np.asarray, of(inputs["condition_BJE"]))
    assert logit.shape == (B, J, M) and logit.dtype == np.float32
    assert np.any(to_condition[0, 1])
    assert not np.any(np.delete(to_condition.reshape(B * J, E), 1, axis=0))


def abstract_params(variant, steps=16, width=7):
    """Shapes of a head of full size, for a single arm and a backbone as wide as the head."""
    head = ActionHead(**VARIANTS[variant], action_width=width, dtype=jnp.bfloat16)
    condition = jax.ShapeDtypeStruct((2, steps, VARIANTS[variant]["width"]), jnp.bfloat16)
    noisy = jax.ShapeDtypeStruct((2, steps, width), jnp.float32)
    velocity, variables = jax.eval_shape(
        lambda noisy, condition: head.init_with_output(
            jax.random.key(0), noisy, jnp.zeros(2), condition, jnp.zeros(2, int), noisy > 0, condition
        ),
        noisy,
        condition,
    )
    assert velocity.shape == noisy.shape and velocity.dtype == jnp.float32
    return variables["params"]


@pytest.fixture(scope="module")
def heads():
    return {variant: abstract_params(variant) for variant in VARIANTS}


def test_parameter_counts_are_the_known_ones(heads, update_golden):
    counts = {variant: tree.num_elements(params) for variant, params in heads.items()}
    if update_golden:
        GOLDEN.write_text(json.dumps(counts, indent=2) + "\n")
    assert counts == json.loads(GOLDEN.read_text())


def test_every_parameter_is_float32_and_has_its_place_on_a_mesh(heads):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    for params in heads.values():
        leaves = tree.flat_paths(params)
        assert {leaf.dtype for leaf in leaves.values()} == {jnp.dtype("float32")}
        spec = {path: spec_for(mesh, DEFAULT_RULES, f"params/{path}", x.shape) for path, x in leaves.items()}
        assert {path.rpartition("/")[2] for path in spec if any(spec[path])} == {"kernel"}
