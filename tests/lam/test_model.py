"""Shapes, causality, and what the decoder may see."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lam_cases import B, H, T, U, V, W, Z, jitted, lam_task

from farsighted_jax.core import tree
from farsighted_jax.core.batch import BatchError, float_rgb
from farsighted_jax.lam import model as lam_model
from farsighted_jax.lam.objective import DEPTH_FIELDS, SENSED_FIELDS


def test_shapes_and_ranges(trained, batch):
    task, params, state = trained
    outputs = jitted(task, "encode")(params, state, batch)
    assert outputs["code"].shape == (B, T - 1, Z)
    assert outputs["code"].dtype == jnp.int32
    assert outputs["encoded"].shape == outputs["quantized"].shape == (B, T - 1, Z, U)
    assert 0 <= outputs["code"].min() <= outputs["code"].max() < V
    decoded = jitted(task, "decode")(params, batch, outputs["quantized"])
    assert decoded["rgb"].shape == (B, T - 1, H, W, 3)
    assert decoded["depth"].shape == (B, T - 1, H, W, 1)
    assert 0 <= decoded["rgb"].min() <= decoded["rgb"].max() <= 1


def test_a_transition_depends_on_frames_up_to_its_own_alone(trained, batch):
    task, params, _ = trained
    rgb = float_rgb(batch["rgb"])

    def per_transition(rgb):
        encoded = task.model.apply({"params": params}, rgb, batch["time_s"], method="encode")
        return encoded.sum(axis=(0, 2, 3))

    reach_tT = np.abs(np.asarray(jax.jit(jax.jacrev(per_transition))(rgb))).sum(axis=(1, 3, 4, 5))
    for k in range(T - 1):
        assert (reach_tT[k, : k + 2] > 1e-3).all()
        assert (reach_tT[k, k + 2 :] == 0).all()


def test_the_decoder_reads_frame_0_and_its_own_codes_alone(trained, batch):
    task, params, state = trained
    quantized = jitted(task, "encode")(params, state, batch)["quantized"]
    rgb = float_rgb(batch["rgb"])

    @jax.jit
    def frame_of(transition):
        def value(first, codes):
            rgb_out, depth, _ = task.model.apply(
                {"params": params}, first, codes, batch["time_s"][:, 1:], method="decode"
            )
            return rgb_out[:, transition].sum() + depth[:, transition].sum()

        return jax.grad(value, argnums=(0, 1))(rgb[:, 0], quantized)

    for k in range(T - 1):
        to_frame, to_codes = frame_of(k)
        assert np.any(to_frame)
        others = [j for j in range(T - 1) if j != k]
        assert np.any(to_codes[:, k])
        assert not np.any(to_codes[:, others])
    before = jitted(task, "decode")(params, batch, quantized)
    future = dict(batch, rgb=batch["rgb"].copy())
    future["rgb"][:, 1:] = 0
    np.testing.assert_array_equal(before["rgb"], jitted(task, "decode")(params, future, quantized)["rgb"])


def test_time_in_seconds_is_read(trained, batch):
    task, params, state = trained
    slower = dict(batch, time_s=batch["time_s"] * 2)
    first, second = (jitted(task, "encode")(params, state, b)["encoded"] for b in (batch, slower))
    assert np.abs(first - second).max() > 1e-4
    quantized = jitted(task, "encode")(params, state, batch)["quantized"]
    frames = [jitted(task, "decode")(params, b, quantized)["rgb"] for b in (batch, slower)]
    assert np.abs(frames[0] - frames[1]).max() > 1e-5


@pytest.mark.parametrize("variant", lam_model.VARIANTS)
def test_every_variant_traces_at_full_size(variant):
    resolution, patch = (64, 8) if variant == "tiny" else (224, 14)
    model = lam_model.FarsightedLam(
        **lam_model.VARIANTS[variant], num_slots=4, code_width=128, patch=patch, dtype=jnp.bfloat16
    )
    rgb = jax.ShapeDtypeStruct((2, 4, resolution, resolution, 3), jnp.float32)
    time_s = jax.ShapeDtypeStruct((2, 4), jnp.float32)
    (frames, depth, _), variables = jax.eval_shape(
        lambda rgb, time_s: model.init_with_output(jax.random.key(0), rgb, time_s), rgb, time_s
    )
    assert frames.shape == (2, 3, resolution, resolution, 3)
    assert depth.dtype == frames.dtype == jnp.float32
    assert all(leaf.dtype == jnp.float32 for leaf in tree.flat_paths(variables).values())


@pytest.fixture(scope="module")
def fused(batch):
    """(task, params, state) of a model that reads depth; random weights, the gate as it starts."""
    task = lam_task(depth_input="fuse")
    rng = np.random.default_rng(0)
    params, state = jax.tree.map(
        lambda leaf: rng.normal(size=leaf.shape).astype(np.float32) / 3,
        jax.eval_shape(task.init, jax.random.key(0), batch),
    )
    return task, params | {"depth_fusion": params["depth_fusion"] | {"gate": np.zeros(8, np.float32)}}, state


def test_depth_input_starts_without_effect_and_is_read_causally(fused, batch):
    task, params, state = fused
    changed = dict(batch, depth=batch["depth"].copy())
    changed["depth"][:, 3] += 1
    encode = jitted(task, "encode")
    before, after = (encode(params, state, b)["encoded"] for b in (batch, changed))
    np.testing.assert_array_equal(before, after)
    params = params | {"depth_fusion": params["depth_fusion"] | {"gate": np.ones(8, np.float32)}}
    before, after = (encode(params, state, b)["encoded"] for b in (batch, changed))
    np.testing.assert_array_equal(before[:, :2], after[:, :2])
    assert np.abs(before - after)[:, 2].max() > 1e-4


def test_depth_input_without_depth_is_an_error_that_names_it(fused, batch):
    task, params, state = fused
    assert set(task.fields) == {"rgb", "time_s", *DEPTH_FIELDS, *SENSED_FIELDS}
    without = {name: array for name, array in batch.items() if not name.startswith("depth")}
    with pytest.raises(BatchError, match=r"\['depth', 'depth_valid'\] missing.*depth_input = 'fuse'"):
        task.encode(params, state, without)


def test_the_encoder_reads_sensed_depth_where_a_batch_has_it_and_the_loss_does_not(fused, batch):
    task, params, state = fused
    sensed = {"sensed_depth": batch["depth"] + 1, "sensed_depth_valid": batch["depth_valid"]}
    open_gate = {**params, "depth_fusion": {**params["depth_fusion"], "gate": jnp.ones(task.model.width)}}
    encode = jitted(task, "encode")
    clean, noisy = (encode(open_gate, state, b)["encoded"] for b in (batch, {**batch, **sensed}))
    moved = encode(open_gate, state, {**batch, "depth": batch["depth"] + 1})["encoded"]
    assert np.abs(np.asarray(clean - noisy)).max() > 1e-3
    np.testing.assert_array_equal(noisy, moved)
    assert task.denominators(batch).keys() == task.denominators({**batch, **sensed}).keys()
