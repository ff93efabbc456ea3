import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from farsighted_jax.checkpoint.digest import content_digests, tree_digest
from farsighted_jax.sharding.mesh import make_mesh


def _flipped(array, bit):
    raw = np.frombuffer(array.tobytes(), np.uint8).copy()
    raw[bit // 8] ^= 1 << (bit % 8)
    return np.frombuffer(raw.tobytes(), array.dtype).reshape(array.shape)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "int8"])
def test_every_single_bit_flip_changes_the_digest(dtype):
    array = np.random.default_rng(0).normal(size=(3, 5)) * 50
    array = np.asarray(jnp.asarray(array).astype(dtype))
    seen = {content_digests({"x": jnp.asarray(array)})["x"]}
    bits = range(array.nbytes * 8) if array.nbytes <= 15 else range(0, array.nbytes * 8, 13)
    for bit in bits:
        seen.add(content_digests({"x": jnp.asarray(_flipped(array, bit))})["x"])
    assert len(seen) == len(bits) + 1


def test_order_shape_dtype_and_path_count():
    x = jnp.arange(6.0)
    values = [x, x[::-1], x.reshape(2, 3), x.astype(jnp.int32), x == 3]
    assert len({content_digests({"x": value})["x"] for value in values}) == len(values)
    assert tree_digest(content_digests({"x": x})) != tree_digest(content_digests({"y": x}))
    assert content_digests({}) == {}


def test_nan_and_negative_zero_are_told_apart_by_their_bits():
    digests = {content_digests({"x": jnp.array([value])})["x"] for value in (0.0, -0.0, np.nan, np.inf)}
    assert len(digests) == 4


def test_sharding_does_not_matter():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    x = np.random.default_rng(1).normal(size=(8, 6)).astype(np.float32)
    plain = content_digests({"x": jnp.asarray(x)})
    for spec in (PartitionSpec(), PartitionSpec(("data", "fsdp")), PartitionSpec("fsdp", "tensor")):
        assert content_digests({"x": jax.device_put(x, NamedSharding(mesh, spec))}) == plain


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16", "int32", "uint8", "bool", "complex64"])
def test_numpy_and_xla_give_the_same(dtype, monkeypatch):
    x = (np.random.default_rng(2).normal(size=(5, 3)) * 9 + 1).astype(jnp.dtype(dtype))
    values = {"matrix": x, "scalar": x[0, 0], "empty": x[:0], "turned": x.T}
    monkeypatch.setattr("farsighted_jax.checkpoint.digest._PIECE", 4)
    by_numpy = content_digests(values)
    monkeypatch.setattr("farsighted_jax.checkpoint.digest._on_host", lambda leaf: False)
    assert content_digests({name: jnp.asarray(value) for name, value in values.items()}) == by_numpy
