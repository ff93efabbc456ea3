"""The policy's objective: what is masked has no influence, what is cut adds up, what is frozen stays."""

import jax
import numpy as np
import pytest
from learning_policy import policy_task, random_batch
from policy_cases import visible_params

from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED

TASK = policy_task(scheduled_sampling=0.5, plan_dropout=0.5)
TERMS = {"action", "latent", "vision", "gripper", "rgb", "depth", "feature"}


@pytest.fixture(scope="module")
def batch():
    return random_batch()


@pytest.fixture(scope="module")
def params(batch):
    shapes, _ = jax.eval_shape(TASK.init, jax.random.key(0), batch)
    zeros = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), shapes)
    networks = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), TASK.pretrained_shapes())
    return {**visible_params(zeros), PRETRAINED: visible_params(networks, 8)}


@pytest.fixture(scope="module")
def gradient():
    """(params, batch, key, counts) -> ((loss, (metrics, updates)), gradient), compiled once."""

    def loss(params, batch, key, counts):
        frozen = jax.lax.stop_gradient(params[PRETRAINED])
        return TASK.loss({**params, PRETRAINED: frozen}, {}, batch, key, counts)

    compiled = jax.jit(jax.value_and_grad(loss, has_aux=True))
    counts_of = jax.jit(TASK.denominators)

    def call(params, batch, counts=None):
        return compiled(params, batch, jax.random.key(5), counts or counts_of(batch))

    call.counts_of = counts_of
    return call


@pytest.fixture(scope="module")
def whole(gradient, params, batch):
    return gradient(params, batch)


def assert_close(found, expected, tolerance=2e-5):
    for path, value in tree.flat_paths(expected).items():
        scale = max(np.abs(value).max(), 1.0)
        np.testing.assert_allclose(tree.flat_paths(found)[path], value, atol=tolerance * scale, err_msg=path)


def without(batch, rows):
    """The batch with everything masked in some rows."""
    masks = {name: values.copy() for name, values in batch.items() if values.dtype == bool}
    for values in masks.values():
        values[rows] = False
    return batch | masks


def first_frames(batch):
    """Frame 0 of row 1 alone is there."""
    valid = np.zeros_like(batch["frame_valid"])
    valid[1, 0] = True
    return valid


def test_every_term_counts_and_all_are_finite(whole, gradient, batch):
    (loss, (metrics, _)), grads = whole
    assert TERMS <= metrics.keys() and np.isfinite(loss)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))
    value = {name: total / count for name, (total, count) in metrics.items()}
    weights = TASK.objective.weights
    vision = value["rgb"] + 0.1 * value["depth"] + weights.feature * value["feature"]
    np.testing.assert_allclose(value["vision"], vision, rtol=1e-5)
    total = value["action"] + value["latent"] + value["vision"] + value["gripper"]
    np.testing.assert_allclose(loss, total, rtol=1e-5)
    counts = {name: float(count) for name, count in gradient.counts_of(batch).items()}
    # Rows 0, 2, 3 have a next keyframe, row 2 one transition; rows 0, 1 three steps of actions, row 2 one.
    assert (counts["vision"], counts["latent"]) == (3, 2 * (2 + 0 + 1 + 2))
    assert (counts["action"], counts["gripper"]) == (3 * 7, 7)
    assert 0 <= value["plan_top1"] <= value["plan_top5"] <= 1 and value["plan_top10"] == 1


def test_what_stands_under_a_mask_has_no_influence(whole, gradient, params, batch):
    rng, changed = np.random.default_rng(3), dict(batch)
    for name in ("depth", "history_depth", "action", "proprio"):
        noise = np.full(batch[name].shape, np.nan, np.float32)
        changed[name] = np.where(batch[f"{name}_valid"], batch[name], noise)
    for name, valid in (("rgb", "frame_valid"), ("history_rgb", "history_valid"), ("text", "text_valid")):
        valid = batch[valid].reshape(*batch[valid].shape, *(1,) * (batch[name].ndim - batch[valid].ndim))
        noise = rng.integers(0, 256, batch[name].shape).astype(batch[name].dtype)
        changed[name] = np.where(valid, batch[name], noise)
    found = gradient(params, changed)
    np.testing.assert_allclose(found[0][0], whole[0][0], rtol=1e-6)
    assert_close(found[1], whole[1])


def test_parts_of_a_batch_add_up_to_it(whole, gradient, params, batch):
    counts = gradient.counts_of(batch)
    parts = [gradient(params, without(batch, rows), counts) for rows in ([0, 3], [1, 2])]
    np.testing.assert_allclose(sum(part[0][0] for part in parts), whole[0][0], rtol=1e-5)
    assert_close(jax.tree.map(np.add, parts[0][1], parts[1][1]), whole[1])
    for name, (total, count) in whole[0][1][0].items():
        np.testing.assert_allclose(sum(part[0][1][0][name][0] for part in parts), total, rtol=1e-4, atol=1e-5)
        assert sum(part[0][1][0][name][1] for part in parts) == count


def test_video_without_actions_trains_vision_and_plan_alone(gradient, params, batch):
    (_, (metrics, _)), grads = gradient(params, without(batch, [0, 1, 2]))
    assert metrics["action"] == (0, 0) and metrics["gripper"] == (0, 0)
    assert metrics["vision"][1] == 1 and metrics["latent"][1] == 4

    def size(branch):
        return max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads[branch]))

    for branch in ("action_head", "gripper_head", "embodiment"):
        assert size(branch) == 0
    for branch in ("vision_head", "plan_head", "backbone", "context_encoder"):
        assert size(branch) > 0


def test_a_missing_next_keyframe_is_never_learned(gradient, params, batch):
    alone = without(batch, [0, 2, 3]) | {"frame_valid": first_frames(batch)}
    (_, (metrics, _)), grads = gradient(params, alone)
    assert metrics["vision"] == (0, 0) and metrics["latent"] == (0, 0)
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(grads["vision_head"]))
    assert metrics["action"][1] > 0


def test_frozen_networks_get_no_gradient(whole):
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(whole[1][PRETRAINED]))


def test_stored_codes_are_those_made_in_the_step(params, batch):
    codes, valid = TASK.codes(params, batch)
    stored = policy_task(stored_codes=True)
    garbage = np.where(valid[..., None], codes, -1)
    found, found_valid = stored.codes(params, batch | {"code": garbage, "code_valid": np.ones_like(valid)})
    np.testing.assert_array_equal(valid, found_valid)
    np.testing.assert_array_equal(np.where(valid[..., None], codes, -1), found)
