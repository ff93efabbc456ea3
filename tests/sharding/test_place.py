import jax
import numpy as np
import pytest

from farsighted_jax.sharding.mesh import MeshError, make_mesh
from farsighted_jax.sharding.place import device_prefetch, process_rows, shard_batch, whole_fields


@pytest.fixture(scope="module")
def mesh():
    return make_mesh({"data": 2, "fsdp": 2, "tensor": 2})


def _source(count, log, error=None):
    for step in range(count):
        log.append(step)
        yield step, {"x": np.full((8, 3), step, np.float32)}
    if error:
        raise error


def test_rows_lie_over_data_and_fsdp_and_are_whole_over_tensor(mesh):
    x = np.arange(24, dtype=np.float32).reshape(8, 3)
    placed = shard_batch({"x": x}, mesh)["x"]
    assert np.array_equal(placed, x)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    assert len({str(shard.index) for shard in placed.addressable_shards}) == 4


def test_one_process_holds_all_rows(mesh):
    assert process_rows(mesh, 8) == tuple(range(8))
    batch = {"step": np.arange(8), "x": np.zeros(8)}
    assert np.array_equal(whole_fields(batch, ("step", "absent"), mesh)["step"], batch["step"])


def test_rows_that_do_not_divide_are_an_error(mesh):
    with pytest.raises(MeshError, match="'x': 6 rows are not divisible by 4"):
        shard_batch({"x": np.zeros((6, 3))}, mesh)


def test_prefetch_keeps_order_and_runs_ahead(mesh):
    log = []
    batches = device_prefetch(_source(5, log), mesh, size=2)
    step, host, device = next(batches)
    assert (step, log) == (0, [0, 1])
    assert isinstance(device["x"], jax.Array) and np.array_equal(device["x"], host["x"])
    assert [item[0] for item in batches] == [1, 2, 3, 4]


def test_an_error_of_the_source_comes_after_the_batches_before_it(mesh):
    batches = device_prefetch(_source(2, [], OSError("disk")), mesh, size=3)
    assert [next(batches)[0], next(batches)[0]] == [0, 1]
    with pytest.raises(OSError, match="disk"):
        next(batches)
