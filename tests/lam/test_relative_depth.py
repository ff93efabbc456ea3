"""Clips without measured depth: an estimate in units of its own, apart from everything metric."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lam_cases import B, T, U, V, Z, gradient_and_aux, random_batch
from tiny_networks import PATCH, random_network, use_tiny_networks

from farsighted_jax.core import tree
from farsighted_jax.core.batch import BatchError
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.encoders.pseudo_depth import relative_depth
from farsighted_jax.lam.model import FarsightedLam
from farsighted_jax.lam.networks import FrozenNetworks
from farsighted_jax.lam.objective import LossWeights, encoder_inputs
from farsighted_jax.lam.quantizer import Quantizer
from farsighted_jax.lam.task import LamTask
from farsighted_jax.pretrained.models import MODELS

ESTIMATOR = "depth-anything-tiny"
# Clips of a dataset without depth; frames of clip 4 are missing, as of the metric clip 1.
RELATIVE = np.array([True, False, False, True, True, False])
WEIGHTS = LossWeights(relative_depth=0.5)


@pytest.fixture(scope="module", autouse=True)
def table():
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_networks(patch)
        yield


@pytest.fixture(scope="module")
def task():
    model = FarsightedLam(8, 1, 1, 2, num_slots=Z, code_width=U, patch=PATCH, depth_input="fuse")
    return LamTask(model, Quantizer("ema", V, U), WEIGHTS, networks=FrozenNetworks(depth_estimator=ESTIMATOR))


def with_depth(batch):
    """All clips are metric."""
    return batch | {"depth_center": np.full(B, 0.4, np.float32), "depth_scale": np.full(B, 0.3, np.float32)}


def mixed(batch):
    """As the pipeline makes it where some datasets have depth."""
    batch = with_depth(batch)
    for name, blank in (("depth", 0), ("depth_valid", 0), ("depth_center", 0), ("depth_scale", 1)):
        batch[name] = batch[name].copy()
        batch[name][RELATIVE] = blank
    return batch


def without_depth(batch):
    """As it is where none has."""
    return {name: array for name, array in batch.items() if not name.startswith("depth")}


@pytest.fixture(scope="module")
def weights(task, batch):
    """(params with the estimator's in them, model_state), all random, the gate of the depth open."""
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 3,
        jax.eval_shape(task.init, jax.random.key(0), with_depth(batch)),
    )
    state |= {name: np.ones_like(state[name]) for name in ("count", "seen")}
    return {**params, PRETRAINED: {ESTIMATOR: random_network(ESTIMATOR)}}, state


@pytest.fixture(scope="module")
def inputs_of(task, weights):
    """batch -> what the encoder gets of it, computed at once."""

    @jax.jit
    def inputs(batch):
        return task.networks.encoder_inputs(weights[0], encoder_inputs(task.model, task.networks, batch))

    return lambda batch: jax.device_get(inputs({name: batch[name] for name in batch if name != "row"}))


@pytest.fixture(scope="module")
def encode(task, weights):
    """What the encoder makes of its inputs."""
    params, _ = weights
    return jax.jit(lambda inputs: task.model.apply({"params": params}, **inputs, method="encode"))


@pytest.fixture(scope="module")
def result(task, weights, batch):
    return gradient_and_aux(task, *weights, mixed(batch))


def test_a_clip_is_of_one_kind_and_metric_ones_do_not_see_the_others(inputs_of, batch):
    metric, both, relative = (inputs_of(make(batch)) for make in (with_depth, mixed, without_depth))
    assert not metric["depth_relative_B"].any() and relative["depth_relative_B"].all()
    np.testing.assert_array_equal(both["depth_relative_B"], RELATIVE)
    for name in ("depth_BTHW1", "depth_valid_BTHW1"):
        np.testing.assert_array_equal(both[name][~RELATIVE], metric[name][~RELATIVE])
        np.testing.assert_array_equal(both[name][RELATIVE], relative[name][RELATIVE])
    assert relative["depth_valid_BTHW1"].all()
    spread_B = np.abs(relative["depth_BTHW1"][:, 0]).mean(axis=(1, 2, 3))
    np.testing.assert_allclose(spread_B, 1, rtol=1e-4)


def test_what_a_sensor_measures_after_frame_0_does_not_enter_a_relative_clip(inputs_of, batch):
    late = with_depth(batch)
    late["depth_valid"] = late["depth_valid"].copy()
    late["depth_valid"][0, 0] = False
    found, relative = inputs_of(late), inputs_of(without_depth(batch))
    assert found["depth_relative_B"].tolist() == [True] + [False] * (B - 1)
    np.testing.assert_array_equal(found["depth_BTHW1"][0], relative["depth_BTHW1"][0])


def test_a_later_frame_changes_no_earlier_code(encode, inputs_of, batch):
    batch = without_depth(batch)
    before = encode(inputs_of(batch))
    later = dict(batch, rgb=batch["rgb"].copy())
    later["rgb"][:, 3] = 255 - later["rgb"][:, 3]
    after = encode(inputs_of(later))
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert np.abs(before - after)[:, 2].max() > 1e-4


def test_the_estimate_and_its_kind_reach_the_codes(encode, inputs_of, batch):
    inputs = inputs_of(without_depth(batch))
    before = encode(inputs)
    changed = {
        "depth_BTHW1": np.zeros_like(inputs["depth_BTHW1"]),
        "depth_relative_B": np.zeros(B, bool),
    }
    for name, value in changed.items():
        assert np.abs(before - encode(inputs | {name: value})).max(axis=(1, 2, 3)).min() > 1e-4


def test_metric_clips_are_encoded_to_the_same_bits_as_without_the_other_kind(encode, inputs_of, batch):
    inputs = inputs_of(with_depth(batch))
    plain = {name: array for name, array in inputs.items() if name != "depth_relative_B"}
    np.testing.assert_array_equal(encode(inputs), encode(plain))


def test_each_kind_has_a_term_of_its_own(result):
    (loss, (metrics, _)), grads = result
    terms = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert terms["depth"] > 0 and terms["relative_depth"] > 0
    want = sum(getattr(WEIGHTS, name) * terms[name] for name in ("rgb", "depth", "commit", "relative_depth"))
    assert float(loss) == pytest.approx(want, rel=1e-5)
    frozen = tree.flat_paths(grads[PRETRAINED])
    assert frozen and not any(np.any(grad) for grad in frozen.values())
    assert all(np.isfinite(grad).all() for grad in jax.tree.leaves(grads))


def test_missing_frames_have_no_influence_at_all(task, weights, batch, result):
    garbage = mixed(batch)
    missing = ~garbage["frame_valid"]
    garbage["rgb"] = garbage["rgb"].copy()
    garbage["rgb"][missing], garbage["depth"][missing] = 255, 1e6
    again = gradient_and_aux(task, *weights, garbage)
    jax.tree.map(np.testing.assert_array_equal, result, again)


def test_metric_clips_have_no_influence_on_the_term_of_relative_ones(task, weights, batch, result):
    other = mixed(batch)
    other["rgb"] = np.where(RELATIVE[:, None, None, None, None], other["rgb"], 255 - other["rgb"])
    other["depth"] = np.where(RELATIVE[:, None, None, None, None], other["depth"], other["depth"] + 1)
    (_, (before, _)), _ = result
    (_, (after, _)), _ = gradient_and_aux(task, *weights, other)
    assert float(before["relative_depth"][0]) == pytest.approx(float(after["relative_depth"][0]), rel=1e-5)
    assert float(before["depth"][0]) != pytest.approx(float(after["depth"][0]), rel=1e-2)


def test_a_batch_without_any_depth_has_the_relative_term_alone(task, weights, batch):
    loss = jax.eval_shape(
        lambda params, state, batch: task.loss(
            params, state, batch, jax.random.key(0), task.denominators(batch)
        ),
        *weights,
        without_depth(batch),
    )
    names = loss[1][0].keys()
    assert "relative_depth" in names and "depth" not in names


def test_no_frame_has_an_influence_on_an_earlier_one_but_the_first():
    p = np.random.default_rng(0).uniform(0.3, 3.0, (1, T, 2, 3, 1)).astype(np.float32)
    jacobian = jax.jit(jax.jacobian(lambda p: relative_depth(p)[0]))(p)
    reached_TT = np.abs(jacobian).sum(axis=(0, 2, 3, 4, 5, 7, 8, 9)) > 0
    want_TT = np.eye(T, dtype=bool)
    want_TT[:, 0] = True
    np.testing.assert_array_equal(reached_TT, want_TT)


def test_a_metric_network_gives_log_metres_where_no_dataset_has_depth(task, batch):
    name = f"{ESTIMATOR}-indoor"
    networks = FrozenNetworks(depth_estimator=name)
    params = {PRETRAINED: {name: random_network(name)}}
    inputs = encoder_inputs(task.model, networks, without_depth(batch))

    def found_and_metres(inputs):
        frames_BHWC = inputs["rgb_BTHWC"].reshape(-1, *batch["rgb"].shape[2:])
        metres, _ = MODELS[name].module().apply({"params": params[PRETRAINED][name]}, frames_BHWC)
        return networks.encoder_inputs(params, inputs), metres

    found, metres = jax.jit(found_and_metres)(inputs)
    assert "depth_relative_B" not in found and found["depth_valid_BTHW1"].all()
    np.testing.assert_allclose(
        found["depth_BTHW1"].ravel(), jnp.log(jnp.maximum(metres, 0.05)).ravel(), atol=1e-4
    )


def test_a_part_of_the_fields_of_depth_is_an_error_that_names_the_rest(task, batch):
    with pytest.raises(BatchError, match=re.escape("['depth_center', 'depth_scale'] missing")):
        encoder_inputs(task.model, task.networks, random_batch())
    plain = dataclasses.replace(task.networks, depth_estimator="")
    with pytest.raises(BatchError, match="model.depth_estimator in its place"):
        encoder_inputs(task.model, plain, without_depth(batch))
