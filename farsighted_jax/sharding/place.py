"""Moving host batches onto the mesh, ahead of the step that needs them."""

from __future__ import annotations

import collections
import functools
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from farsighted_jax.core import hosts
from farsighted_jax.sharding import mesh as mesh_module


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over data and fsdp, all other axes whole."""
    return NamedSharding(mesh, PartitionSpec(mesh_module.BATCH_AXES))


@functools.lru_cache(maxsize=16)
def process_rows(mesh: Mesh, batch_size: int) -> tuple[int, ...]:
    """Rows of the global batch that lie on this process's devices, ascending.

    Where the axis "tensor" reaches over processes, several of them hold the same rows.

    Args:
      mesh: from `make_mesh`.
      batch_size: B, a multiple of `num_batch_shards`.
    """
    places = batch_sharding(mesh).addressable_devices_indices_map((batch_size,)).values()
    return tuple(sorted({row for place in places for row in range(batch_size)[place[0]]}))


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays from this process's rows of a batch.

    Args:
      batch: name -> array[R, ...] on the host, the rows `process_rows`.
      mesh: from `make_mesh`.

    Raises:
      MeshError: the rows do not divide over this process's share of the batch
        axes; the message has the numbers.
    """
    sharding = batch_sharding(mesh)
    shards = mesh_module.num_batch_shards(mesh)
    mine = process_rows(mesh, shards)
    for name, array in batch.items():
        if len(array) % len(mine):
            raise mesh_module.MeshError(
                f"batch field {name!r}: {len(array)} rows are not divisible by {len(mine)}, this process's "
                f"part of data {mesh.shape['data']} x fsdp {mesh.shape['fsdp']}"
            )

    def placed(array):
        rows = len(array) // len(mine)

        def shard(index):
            first = mine.index((index[0].start or 0) // rows) * rows if rows else 0
            return array[first : first + rows]

        return jax.make_array_from_callback((rows * shards, *array.shape[1:]), sharding, shard)

    return {name: placed(np.asarray(array)) for name, array in batch.items()}


def whole_fields(
    batch: Mapping[str, np.ndarray], names: Collection[str], mesh: Mesh
) -> dict[str, np.ndarray]:
    """Some fields of the global batch, on every process, from this process's rows of them."""
    fields = {name: batch[name] for name in names if name in batch}
    return fields if jax.process_count() == 1 else hosts.whole(shard_batch(fields, mesh))


def device_prefetch(
    batches: Iterable[tuple[int, dict[str, np.ndarray]]], mesh: Mesh, size: int = 2
) -> Iterator[tuple[int, dict[str, np.ndarray], dict[str, Any]]]:
    """Yields (step, host batch, device batch), with `size` batches already under way to the device.

    Transfers are asynchronous, so the copy of the next batch overlaps with the
    step on the present one. An error of the source is raised after the batches before it.
    """
    queue: collections.deque = collections.deque()
    error = None
    source = iter(batches)
    while True:
        while error is None and len(queue) < max(size, 1):
            try:
                step, host = next(source)
                queue.append((step, host, shard_batch(host, mesh)))
            except Exception as raised:  # StopIteration ends it; others wait for their turn
                error = raised
        if not queue:
            if isinstance(error, StopIteration):
                return
            raise error
        yield queue.popleft()
