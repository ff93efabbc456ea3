import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from farsighted_jax.core import placement
from farsighted_jax.layers import attention_kernels
from farsighted_jax.layers.attention import attention
from farsighted_jax.sharding.mesh import make_mesh


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def qkv(B=4, S=130, A=2, K=16, dtype=jnp.float32):
    return tuple(normal(seed, B, S, A, K, dtype=dtype) for seed in range(3))


def gradients(function, *arrays):
    return jax.grad(lambda *arrays: jnp.sum(jnp.sin(function(*arrays))), argnums=(0, 1, 2))(*arrays)


@pytest.mark.parametrize("num_tokens", [130, 640])
def test_splash_equals_plain_attention_with_its_gradients(num_tokens):
    arrays = qkv(1, num_tokens)

    def splash(q, k, v):
        return attention_kernels.splash(q, k, v, 16**-0.5, interpret=True)

    np.testing.assert_allclose(splash(*arrays), attention(*arrays), atol=1e-5)
    for ours, plain in zip(gradients(splash, *arrays), gradients(attention, *arrays), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.fixture
def devices_are(monkeypatch):
    """Makes the mesh look like one of other devices."""

    def pretend(platform):
        monkeypatch.setattr(placement, "platform", lambda: platform)
        return placement.traced_for(make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices()[:8]))

    return pretend


@pytest.mark.parametrize(
    ("platform", "dtype", "tokens", "masked", "expected"),
    [
        ("tpu", jnp.float32, 130, False, "splash"),
        ("tpu", jnp.float32, 127, False, "plain"),
        ("tpu", jnp.float32, 130, True, "plain"),
        ("gpu", jnp.bfloat16, 15, False, "cudnn"),
        ("gpu", jnp.bfloat16, 16, True, "cudnn"),
        ("gpu", jnp.bfloat16, 15, True, "plain"),
        ("gpu", jnp.float32, 16, False, "plain"),
        ("cpu", jnp.bfloat16, 130, False, "plain"),
    ],
)
def test_the_kernel_is_that_of_the_devices_traced_for(
    devices_are, platform, dtype, tokens, masked, expected, monkeypatch
):
    q, k, _ = qkv(4, tokens, dtype=dtype)
    mask = jnp.ones((1, 1, tokens, tokens), bool) if masked else None
    with devices_are(platform):
        assert attention_kernels.kernel(q, k, mask) == expected
        assert attention_kernels.kernel(q[:3], k[:3], mask) == "plain"  # a batch of 3 on 4 devices
        monkeypatch.setenv(attention_kernels.SWITCH, "plain")
        assert attention_kernels.kernel(q, k, mask) == "plain"


def test_without_a_mesh_attention_is_plain():
    assert placement.platform() is None
    assert attention_kernels.kernel(*qkv()[:2]) == "plain"


def test_a_kernel_runs_on_each_devices_part(devices_are, monkeypatch):
    arrays, shapes = qkv(), []

    def splash(q, k, v, scale):
        shapes.append(q.shape)
        return jax.nn.dot_product_attention(q, k, v, scale=scale)

    monkeypatch.setattr(attention_kernels, "splash", splash)
    with devices_are("tpu"):
        found = jax.jit(attention)(*arrays)
        slopes = jax.jit(lambda *arrays: gradients(attention, *arrays))(*arrays)
    assert set(shapes) == {(1, 130, 1, 16)}
    np.testing.assert_allclose(found, attention(*arrays), atol=1e-5)
    for ours, plain in zip(slopes, gradients(attention, *arrays), strict=True):
        np.testing.assert_allclose(ours, plain, atol=1e-5)


@pytest.mark.parametrize("mask_shape", [(4, 1, 16, 16), (1, 2, 16, 16)])
def test_a_mask_is_divided_as_batch_and_heads_are(devices_are, monkeypatch, mask_shape):
    arrays = qkv(4, 16, dtype=jnp.bfloat16)
    mask = np.random.default_rng(3).random(mask_shape) < 0.7
    mask |= np.eye(16, dtype=bool)

    def cudnn(q, k, v, mask, scale):
        return jax.nn.dot_product_attention(q, k, v, mask=mask, scale=scale)

    monkeypatch.setattr(attention_kernels, "cudnn", cudnn)
    with devices_are("gpu"):
        found = jax.jit(attention)(*arrays, mask)
    np.testing.assert_allclose(
        found.astype(np.float32), attention(*arrays, mask).astype(np.float32), atol=2e-2
    )


@pytest.mark.skipif(jax.default_backend() != "gpu", reason="cuDNN's kernel needs a GPU")
def test_cudnn_equals_plain_attention_with_its_gradients():
    arrays = qkv(2, 64, dtype=jnp.bfloat16)
    with placement.traced_for(make_mesh({"data": -1, "fsdp": 1, "tensor": 1}, jax.devices()[:1])):
        assert attention_kernels.kernel(*arrays[:2]) == "cudnn"
        found, slopes = jax.jit(lambda *a: (attention(*a), gradients(attention, *a)))(*arrays)
    for ours, plain in zip(
        (found, *slopes), (attention(*arrays), *gradients(attention, *arrays)), strict=True
    ):
        np.testing.assert_allclose(ours.astype(np.float32), plain.astype(np.float32), atol=3e-2)


def test_activations_stay_spread_over_the_batch():
    x = normal(0, 8, 6)
    with placement.traced_for(make_mesh({"data": 2, "fsdp": 2, "tensor": 2}, jax.devices()[:8])):
        assert jax.jit(placement.spread)(x).sharding.spec[0] == ("data", "fsdp")
        assert placement.spread(x[:3]) is not None  # not divisible: left alone
        assert placement.batch_axes(3) is None
        assert placement.heads_axis(3) is None and placement.heads_axis(4) == "tensor"
    assert placement.spread(x) is x
    assert PartitionSpec(placement.BATCH_AXES)[0] == ("data", "fsdp")
