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
from farsighted_jax.lam.objective import LossWeights
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
    shapes = FrozenNetworks("dinov2-tiny", True, jnp.dtype("bfloat16")).shapes()
    kinds = {name: {str(leaf.dtype) for leaf in jax.tree.leaves(part)} for name, part in shapes.items()}
    assert kinds == {"dinov2-tiny": {"bfloat16"}, "vgg16": {"bfloat16"}, "lpips-vgg16": {"float32"}}
    assert FrozenNetworks().shapes() == {}


def test_gradients_reach_every_trained_parameter_and_no_frozen_one(result):
    _, grads = result
    frozen = tree.flat_paths(grads.pop(PRETRAINED))
    assert frozen and not any(np.any(grad) for grad in frozen.values())
    trained = tree.flat_paths(grads)
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
        lambda networks, params, rgb: seen.append(rgb) or tokens_of(networks, params, rgb),
    )
    jax.eval_shape(
        lambda params, state, batch: contrasted.loss(
            params, state, batch, jax.random.key(0), contrasted.denominators(batch)
        ),
        *weights,
        batch,
    )
    assert len(seen) == 2 and seen[0] is not seen[1]
