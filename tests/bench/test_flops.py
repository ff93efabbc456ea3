"""The analytic count against what jax traces (every matrix product) and what XLA counts (one layer)."""

from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from farsighted_jax.bench import flops, network_flops
from farsighted_jax.bench.traced_flops import gradient_flops, traced_flops
from farsighted_jax.cli.run import task_for, zero_batch
from farsighted_jax.core import config as config_lib
from farsighted_jax.encoders.depth_anything import DepthAnything
from farsighted_jax.encoders.dinov2 import DinoV2
from farsighted_jax.encoders.vgg import Vgg16Features
from farsighted_jax.layers import attention_kernels
from farsighted_jax.layers.space_time import SpaceTimeTransformer
from farsighted_jax.pretrained.models import MODELS

ROOT = Path(__file__).resolve().parents[2]


def load(variant, **changes):
    config = config_lib.load(str(ROOT / f"configs/lam_pretrain.py:{variant}"))
    for key, value in changes.items():
        section, _, name = key.partition("__")
        config[section][name] = value
    return config


CASES = {
    "paper": {},
    "base": {"model__depth_input": "fuse", "model__pyramid_every": 5, "loss__feature": 0.1},
    "small": {"data__offsets_s": (0.1, 0.2, 0.3, 0.4, 0.5), "data__resolution": 112},
    "tiny": {"model__num_slots": 3, "model__pyramid": (1, 2), "model__unroll": 1},
    "large": {"model__num_keypoints": 5, "model__patch": 28, "model__image_encoder": "patch"},
}
# One of each head; tracing a gradient takes seconds.
WITH_GRADIENT = ("paper", "tiny")


@pytest.mark.parametrize("variant", CASES)
def test_the_count_is_that_of_every_product_traced_at_full_size(variant):
    config = load(variant, **CASES[variant])
    task, batch = task_for(config), zero_batch(config)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), batch)
    model, t, Z = task.model, len(config.data.offsets_s), config.model.num_slots
    rgb, time_s = jnp.zeros(batch["rgb"].shape, jnp.float32), batch["time_s"]
    inputs = {f"{name}_BTHW1": batch[name] for name in ("depth", "depth_valid") if name in batch}
    if model.token_width:
        N = flops.num_patches(config.model, config.data.resolution)
        inputs["tokens_BTNE"] = jnp.zeros((1, t + 1, N, model.token_width))
    code = jnp.zeros((1, t, Z, config.model.code_width))

    def encode(params, rgb):
        return model.apply({"params": params}, rgb, time_s, **inputs, method="encode")

    def decode(params, code):
        return model.apply({"params": params}, rgb[:, 0], code, time_s[:, 1:], method="decode")

    counted = flops.lam_flops(config)
    assert traced_flops(encode, params, rgb) == counted["encoder"].forward
    assert traced_flops(decode, params, code) == counted["decoder"].forward
    if variant not in WITH_GRADIENT:
        return

    def loss(params, rgb, code):
        return (encode(params, rgb) ** 2).sum() + sum(
            (x**2).sum() for x in jax.tree.leaves(decode(params, code))
        )

    # Three times the forward pass, but for the gradient of frame 0 in the decoder.
    step = traced_flops(jax.grad(loss, argnums=(0, 1, 2)), params, rgb, code)
    assert step == pytest.approx(counted["encoder"].step + counted["decoder"].step, rel=0.02)
    if variant == "paper":
        assert 1.5e12 < counted["encoder"].step + counted["decoder"].step < 1.7e12


def test_the_gradient_of_the_loss_as_traced_is_the_count():
    config = load("tiny")
    batch = {**zero_batch(config), "dataset": jnp.zeros(1, int), "episode": jnp.zeros(1, int)}
    counted = sum(part.step for part in flops.lam_flops(config).values())
    found = gradient_flops(task_for(config), batch)
    assert found == {"trained": pytest.approx(counted, rel=0.02)}
    # Without a gradient of the decoder's own parameters, the one of its input is left.
    frozen = gradient_flops(task_for(config), batch, ("^decoder/",))
    assert 0.6 * counted < frozen["trained"] < 0.9 * counted


def xla_flops(depth, temporal, pyramid, x_BTSD):
    """What XLA counts for the gradient of an unrolled stack, elementwise work included."""
    stack = SpaceTimeTransformer(depth, 2, temporal, unroll=depth, pyramid=pyramid, pyramid_every=1)
    params = jax.eval_shape(stack.init, jax.random.key(0), x_BTSD)

    def loss(params, x_BTSD):
        return (stack.apply(params, x_BTSD) ** 2).sum()

    lowered = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(params, x_BTSD)
    return lowered.cost_analysis()["flops"]


def test_a_kernel_counts_for_each_block_and_device():
    def attended(x):
        return attention_kernels.splash(x, x, x, scale=1.0, interpret=True)

    x_BSAK = jax.ShapeDtypeStruct((4, 260, 6, 64), jnp.bfloat16)
    # Scores and sums of values, of tokens padded to three times 128.
    count = 4 * 4 * 6 * 64 * 384 * 384
    assert traced_flops(attended, x_BSAK) == count
    auto = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.sharding.AbstractMesh((2, 3), ("data", "tensor"), axis_types=auto)
    spec = jax.sharding.PartitionSpec("data", None, "tensor")
    spread = jax.shard_map(attended, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    assert traced_flops(spread, x_BSAK) == count


@pytest.mark.parametrize(
    ("temporal", "pyramid"), [(True, ()), (True, (1, 2)), (False, ())], ids=["encoder", "pyramid", "decoder"]
)
def test_one_more_layer_is_what_xla_counts_for_it(temporal, pyramid):
    B, T, S, D = 2, 3, 17, 256
    x_BTSD = jax.ShapeDtypeStruct((B, T, S, D), jnp.float32)
    first, second = (xla_flops(depth, temporal, pyramid, x_BTSD) for depth in (2, 3))
    layer = 3 * B * flops.transformer(D, 1, S, T, temporal, pyramid)
    assert second - first == pytest.approx(layer, rel=0.02)


@pytest.mark.parametrize(
    ("network", "size", "count"),
    [
        (DinoV2(24, 3, 2, grid=3, num_registers=4), 42, network_flops.image_encoder),
        (DinoV2(24, 3, 2, grid=3, swiglu=True), 42, network_flops.image_encoder),
        (Vgg16Features(), 50, network_flops.perceptual_features),
        (
            DepthAnything(DinoV2(24, 4, 2, grid=3), (1, 2, 3, 4), (5, 6, 7, 8), 10, head_width=3),
            42,
            network_flops.depth_estimator,
        ),
    ],
    ids=["registers", "swiglu", "vgg", "depth"],
)
def test_pretrained_networks_are_counted_as_traced(network, size, count):
    image = jnp.zeros((1, size, size, 3))
    params = jax.eval_shape(network.init, jax.random.key(0), image)
    assert traced_flops(network.apply, params, image) == count(network, size)


def test_parts_follow_the_configuration():
    plain = flops.lam_flops(load("tiny"))
    assert set(plain) == {"encoder", "decoder"}
    twice = flops.lam_flops(load("tiny", loss__contrastive=0.1))
    assert twice["encoder"].step == 2 * plain["encoder"].step and twice["decoder"] == plain["decoder"]
    parts = flops.lam_flops(load("base", model__image_encoder="dinov2-vitb14-reg"))
    frame = network_flops.image_encoder(MODELS["dinov2-vitb14-reg"].module(), 224)
    assert parts["frozen_encoder"] == (4 * frame, 4 * frame)
    picture = network_flops.perceptual_features(Vgg16Features(), 224)
    assert parts["lpips"] == (6 * picture, 9 * picture)
    stored = load("base", model__image_encoder="dinov2-vitb14-reg", data__image_features="features")
    assert flops.lam_flops(stored) == {name: part for name, part in parts.items() if name != "frozen_encoder"}
    estimated = flops.lam_flops(load("base", model__depth_estimator="depth-anything-vits14"))
    assert estimated["frozen_encoder"].forward > parts["frozen_encoder"].forward
    without = flops.lam_flops(load("base", model__image_encoder="patch", loss__lpips=0.0))
    assert set(without) == {"encoder", "decoder"}
    assert without["encoder"].forward > parts["encoder"].forward
