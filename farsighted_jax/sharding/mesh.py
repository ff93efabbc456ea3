"""The device mesh: the named axes data, fsdp and tensor, made in one place."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from farsighted_jax.core.placement import BATCH_AXES

AXES = ("data", "fsdp", "tensor")


class MeshError(ValueError):
    """Devices, mesh and batch do not fit together; the numbers are in the message."""


def make_mesh(sizes: Mapping[str, int], devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A mesh over all given devices, with Auto axes (linen modules need them under FSDP).

    Between several slices of TPUs there is but a network, so that only the data
    axis, which talks least, goes over it: fsdp and tensor stay within a slice.

    Args:
      sizes: size of each axis of `AXES`; at most one is -1, "what remains".
      devices: the devices to use; all of `jax.devices()` by default.

    Raises:
      MeshError: an axis is missing or unknown, a size is neither positive nor
        -1, the product of the sizes is not the number of devices, or data does
        not divide over slices.
    """
    sizes = {name: int(size) for name, size in sizes.items()}
    if set(sizes) != set(AXES):
        raise MeshError(f"mesh axes {sorted(sizes)}, expected {sorted(AXES)}")
    bad = {name: size for name, size in sizes.items() if size < 1 and size != -1}
    open_axes = [name for name, size in sizes.items() if size == -1]
    if bad or len(open_axes) > 1:
        raise MeshError(f"mesh sizes {sizes}: each must be positive, at most one -1 (what remains)")
    devices = list(jax.devices() if devices is None else devices)
    fixed = math.prod(size for size in sizes.values() if size != -1)
    if open_axes and len(devices) % fixed == 0:
        sizes[open_axes[0]] = len(devices) // fixed
    if math.prod(sizes.values()) != len(devices):
        raise MeshError(
            f"mesh sizes {sizes} need {'a multiple of ' if open_axes else ''}{fixed} device(s), "
            f"found {len(devices)}"
        )
    shape = tuple(sizes[name] for name in AXES)
    num_slices = len({getattr(device, "slice_index", None) for device in devices})
    if num_slices > 1:
        placed = _over_slices(shape, num_slices, devices)
    else:
        # An axis may be a part of a torus' side: 8 of the 16 chips in a row.
        placed = mesh_utils.create_device_mesh(shape, devices, allow_split_physical_axes=True)
    return Mesh(placed, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def one_device() -> Mesh:
    """The mesh of the first device alone."""
    return make_mesh(dict.fromkeys(AXES, 1), devices=jax.local_devices()[:1])


def _over_slices(shape, num_slices, devices):
    """Devices in the order of a mesh whose data axis has the slices one after the other."""
    data, *inner = shape
    if data % num_slices:
        raise MeshError(
            f"mesh size data = {data} is not divisible by {num_slices} slices; the others stay within one"
        )
    return mesh_utils.create_hybrid_device_mesh(
        (data // num_slices, *inner), (num_slices, 1, 1), devices, allow_split_physical_axes=True
    )


def num_batch_shards(mesh: Mesh) -> int:
    """Over how many devices the batch axis is spread."""
    return math.prod(mesh.shape[name] for name in BATCH_AXES)


def check_batch_size(mesh: Mesh, batch_size: int, accumulation: int = 1) -> None:
    """Raises MeshError unless every micro-batch divides over the batch axes of the mesh."""
    pieces = num_batch_shards(mesh) * accumulation
    if batch_size < 1 or batch_size % pieces:
        raise MeshError(
            f"batch size {batch_size} is not divisible by {pieces} = data {mesh.shape['data']} x "
            f"fsdp {mesh.shape['fsdp']} x accumulation {accumulation}"
        )
