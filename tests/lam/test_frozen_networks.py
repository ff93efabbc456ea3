"""What pretrained networks do in the LAM: tokens for the encoder, LPIPS and tokens as targets."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lam_cases import B, T, U, V, Z, gradient_and_aux, jitted, random_batch
from tiny_networks import PATCH, TOKEN_WIDTH, random_network, use_tiny_networks

from farsighted_jax.core import tree
from farsighted_jax.core.batch import transition_valid
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.model import FarsightedLam
from farsighted_jax.lam.networks import FrozenNetworks
from farsighted_jax.lam.objective import LossWeights, encoder_inputs
from farsighted_jax.lam.quantizer import Quantizer
from farsighted_jax.lam.task import LamTask

# VGG16 takes no fewer pixels.
H, W = 16, 20
# Without `rgb`, what reaches the rgb head comes from LPIPS alone.
WEIGHTS = LossWeights(rgb=0.0, lpips=2.0, feature=0.5)


@pytest.fixture(scope="module", autouse=True)
def table():
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_networks(patch)
        yield


@pytest.fixture(scope="module")
def task():
    model = FarsightedLam(
        8, 1, 1, 2, num_slots=Z, code_width=U, patch=PATCH, frame_encoder="linear",
        token_width=TOKEN_WIDTH, token_head=True,
    )  # fmt: skip
    networks = FrozenNetworks("dinov2-tiny", perceptual=True)
    return LamTask(model, Quantizer("ema", V, U), WEIGHTS, networks=networks)


@pytest.fixture(scope="module")
def batch():
    return random_batch(size=(H, W))


@pytest.fixture(scope="module")
def weights(task, batch):
    """(params with the networks' in them, model_state), all random."""
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 3,
        jax.eval_shape(task.init, jax.random.key(0), batch),
    )
    state |= {name: np.ones_like(state[name]) for name in ("count", "seen")}
    return {**params, PRETRAINED: {name: random_network(name) for name in task.pretrained_shapes()}}, state


@pytest.fixture(scope="module")
def result(task, weights, batch):
    return gradient_and_aux(task, *weights, batch)


def test_their_weights_are_no_part_of_what_is_initialised(task, weights, batch):
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    assert params.keys() == {"encoder", "decoder"}
    assert params["encoder"]["queries"].shape == (T, Z, TOKEN_WIDTH)
    shapes = task.pretrained_shapes()
    assert shapes.keys() == {"dinov2-tiny", "vgg16", "lpips-vgg16"}
    assert not tree.structure_difference(shapes, weights[0][PRETRAINED])


def test_half_precision_reaches_all_but_the_weights_of_lpips():
    shapes = FrozenNetworks("dinov2-tiny", True, dtype=jnp.dtype("bfloat16")).shapes()
    kinds = {name: {str(leaf.dtype) for leaf in jax.tree.leaves(part)} for name, part in shapes.items()}
    assert kinds == {"dinov2-tiny": {"bfloat16"}, "vgg16": {"bfloat16"}, "lpips-vgg16": {"float32"}}
    assert FrozenNetworks().shapes() == {}


def test_gradients_reach_every_trained_parameter_and_no_frozen_one(result):
    _, grads = result
    trained = tree.flat_paths({name: part for name, part in grads.items() if name != PRETRAINED})
    frozen = tree.flat_paths(grads[PRETRAINED])
    assert frozen and not any(np.any(grad) for grad in frozen.values())
    assert "decoder/token_head/kernel" in trained and "decoder/rgb_head/kernel" in trained
    assert not [path for path, grad in trained.items() if not np.any(grad)]
    assert all(np.isfinite(grad).all() for grad in trained.values())


def test_the_total_is_the_weighted_sum_of_the_terms(result):
    (loss, (metrics, _)), _ = result
    terms = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert terms["lpips"] > 0 and terms["feature"] > 0
    want = sum(getattr(WEIGHTS, name) * terms[name] for name in ("lpips", "feature", "depth", "commit"))
    assert float(loss) == pytest.approx(want, rel=1e-5)


def test_missing_frames_have_no_influence_at_all(task, weights, batch, result):
    missing = ~batch["frame_valid"]
    garbage = dict(batch, rgb=batch["rgb"].copy(), depth=batch["depth"].copy())
    garbage["rgb"][missing] = 255
    garbage["depth"][missing] = 1e6
    again = gradient_and_aux(task, *weights, garbage)
    jax.tree.map(np.testing.assert_array_equal, result, again)


def test_lpips_has_a_gradient_with_respect_to_each_valid_reconstruction(task, weights, batch):
    target = batch["rgb"][:, 1:] / np.float32(255)
    predicted = np.random.default_rng(1).uniform(size=target.shape).astype(np.float32)
    valid_Bt = transition_valid(batch["frame_valid"])

    @jax.jit
    def gradient(predicted):
        def masked(predicted):
            distance_Bt = task.networks.perceptual_distance(weights[0], predicted, target)
            return jnp.where(valid_Bt, distance_Bt, 0.0).sum()

        return jax.grad(masked)(predicted)

    reached_Bt = np.abs(gradient(predicted)).max(axis=(2, 3, 4)) > 0
    np.testing.assert_array_equal(reached_Bt, valid_Bt)


def test_the_encoder_reads_the_tokens_frame_by_frame(task, weights, batch):
    params, state = weights
    encode = jitted(task, "encode")
    before = encode(params, state, batch)
    assert before["code"].shape == (B, T - 1, Z)
    later = dict(batch, rgb=batch["rgb"].copy())
    later["rgb"][:, 3] = 255 - later["rgb"][:, 3]
    after = encode(params, state, later)["encoded"]
    np.testing.assert_array_equal(before["encoded"][:, :2], after[:, :2])
    assert np.abs(before["encoded"] - after)[:, 2].max() > 1e-4
    other = {**params[PRETRAINED], "dinov2-tiny": random_network("dinov2-tiny", seed=1)}
    changed = encode({**params, PRETRAINED: other}, state, batch)["encoded"]
    assert np.abs(before["encoded"] - changed).max() > 1e-4


def test_the_second_view_of_the_contrastive_term_has_tokens_of_its_own(task, weights, batch, monkeypatch):
    contrasted = dataclasses.replace(task, weights=dataclasses.replace(WEIGHTS, contrastive=0.1))
    batch = batch | {name: np.zeros(B, np.int32) for name in ("dataset", "episode")}
    seen, tokens_of = [], FrozenNetworks.encoder_inputs
    monkeypatch.setattr(
        FrozenNetworks,
        "encoder_inputs",
        lambda networks, params, inputs: (
            seen.append(inputs["rgb_BTHWC"]) or tokens_of(networks, params, inputs)
        ),
    )
    jax.eval_shape(
        lambda params, state, batch: contrasted.loss(
            params, state, batch, jax.random.key(0), contrasted.denominators(batch)
        ),
        *weights,
        batch,
    )
    assert len(seen) == 2 and seen[0] is not seen[1]


@pytest.fixture(scope="module", params=["", "-indoor"])
def filling(request, batch):
    """(kind, function: batch -> depth and where it is known, batch with constants) of an estimator."""
    networks = FrozenNetworks(depth_estimator=f"depth-anything-tiny{request.param}")
    model = FarsightedLam(8, 1, 1, 2, num_slots=Z, code_width=U, patch=PATCH, depth_input="fuse")
    params = {PRETRAINED: {name: random_network(name) for name in networks.shapes()}}
    batch = batch | {"depth_center": np.full(B, 0.4, np.float32), "depth_scale": np.full(B, 0.3, np.float32)}

    @jax.jit
    def filled(batch):
        inputs = networks.encoder_inputs(params, encoder_inputs(model, networks, batch))
        kind = set() if request.param else {"depth_relative_B"}
        assert inputs.keys() == {"rgb_BTHWC", "time_s_BT", "depth_BTHW1", "depth_valid_BTHW1"} | kind
        return inputs["depth_BTHW1"], inputs["depth_valid_BTHW1"]

    return request.param, filled, batch


def test_an_estimate_fills_the_holes_of_the_sensor_alone(filling):
    _, filled, batch = filling
    valid, exists = batch["depth_valid"], batch["frame_valid"]
    garbage = dict(batch, depth=np.where(valid, batch["depth"], np.float32(np.nan)))
    depth, known = (np.asarray(array) for array in filled(garbage))
    np.testing.assert_array_equal(depth[valid], batch["depth"][valid])
    assert known[exists].all() and np.isfinite(depth).all()
    holes = depth[exists][~valid[exists]]
    metres = np.exp(holes * 0.3 + 0.4)
    assert holes.std() > 1e-3 and metres.min() > 0.049 and metres.max() < 20.1


def test_a_frame_without_measurement_has_depth_only_from_a_metric_network(filling):
    kind, filled, batch = filling
    bare = dict(batch, depth_valid=batch["depth_valid"].copy())
    bare["depth_valid"][2, 1] = False
    depth, known = filled(bare)
    before, _ = filled(batch)
    assert known[2, 1].all() if kind else not known[2, 1].any() and not np.any(depth[2, 1])
    # Each frame is fitted by itself: what stands in one changes no other.
    others = np.ones((B, T), bool)
    others[2, 1] = False
    np.testing.assert_array_equal(np.asarray(depth)[others], np.asarray(before)[others])


def test_a_relative_estimate_is_aligned_to_the_sensor(filling):
    kind, filled, batch = filling
    if kind:
        pytest.skip("metric networks are not aligned")
    nearer = dict(batch, depth=batch["depth"] - np.float32(1.0))
    holes = ~batch["depth_valid"] & batch["frame_valid"][:, :, None, None, None]
    there, here = (np.asarray(filled(b)[0])[holes] for b in (batch, nearer))
    np.testing.assert_allclose(there - 1.0, here, atol=2e-2)
