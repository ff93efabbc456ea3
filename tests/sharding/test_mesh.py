from types import SimpleNamespace

import jax
import pytest

from farsighted_jax.sharding import mesh as mesh_module
from farsighted_jax.sharding.mesh import MeshError, check_batch_size, make_mesh, num_batch_shards


@pytest.mark.parametrize(
    "sizes, shape",
    [
        ({"data": -1, "fsdp": 1, "tensor": 1}, (8, 1, 1)),
        ({"data": 2, "fsdp": -1, "tensor": 2}, (2, 2, 2)),
        ({"data": 1, "fsdp": 4, "tensor": 2}, (1, 4, 2)),
    ],
)
def test_sizes_and_axis_types(sizes, shape):
    mesh = make_mesh(sizes)
    assert tuple(mesh.shape[name] for name in ("data", "fsdp", "tensor")) == shape
    assert all(kind == jax.sharding.AxisType.Auto for kind in mesh.axis_types)


def test_subset_of_devices():
    mesh = make_mesh({"data": 1, "fsdp": -1, "tensor": 1}, jax.devices()[:3])
    assert mesh.devices.size == 3 and mesh.shape["fsdp"] == 3


@pytest.mark.parametrize(
    "sizes, words",
    [
        ({"data": 3, "fsdp": 1, "tensor": 1}, ["3 device", "found 8"]),
        ({"data": -1, "fsdp": 3, "tensor": 1}, ["multiple of 3", "found 8"]),
        ({"data": -1, "fsdp": -1, "tensor": 1}, ["at most one -1"]),
        ({"data": 0, "fsdp": 1, "tensor": 1}, ["'data': 0"]),
        ({"data": 8, "fsdp": 1}, ["tensor"]),
    ],
)
def test_what_does_not_fit_is_an_error_with_the_numbers(sizes, words):
    with pytest.raises(MeshError) as error:
        make_mesh(sizes)
    assert all(word in str(error.value) for word in words)


def slices(number, chips):
    """Stand-ins for the devices of several slices, one after the other."""
    return [
        SimpleNamespace(slice_index=i, id=i * chips + k, platform="cpu", device_kind="cpu", process_index=i)
        for i in range(number)
        for k in range(chips)
    ]


def test_only_the_data_axis_goes_over_slices(monkeypatch):
    monkeypatch.setattr(mesh_module, "Mesh", lambda devices, axes, axis_types: devices)
    found = make_mesh({"data": 4, "fsdp": 2, "tensor": 1}, slices(2, 4))
    index = [[[device.slice_index for device in row] for row in rows] for rows in found]
    assert index == [[[0], [0]], [[0], [0]], [[1], [1]], [[1], [1]]]
    with pytest.raises(MeshError, match="data = 1 is not divisible by 2 slices"):
        make_mesh({"data": 1, "fsdp": 8, "tensor": 1}, slices(2, 4))


def test_batch_size_must_divide_over_shards_and_micro_batches():
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    assert num_batch_shards(mesh) == 4
    check_batch_size(mesh, 24, accumulation=3)
    with pytest.raises(MeshError, match="20 is not divisible by 12 = data 2 x fsdp 2 x accumulation 3"):
        check_batch_size(mesh, 20, accumulation=3)
