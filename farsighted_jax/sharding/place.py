"""Moving host batches onto the mesh, ahead of the step that needs them."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from farsighted_jax.sharding import mesh as mesh_module


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over data and fsdp, all other axes whole."""
    return NamedSharding(mesh, PartitionSpec(mesh_module.BATCH_AXES))


def shard_batch(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """Global arrays from this process's rows of a batch.

    Args:
      batch: name -> array[B / number of processes, ...] on the host.
      mesh: from `make_mesh`.

    Raises:
      MeshError: the rows do not divide over this process's share of the batch
        axes; the message has the numbers.
    """
    sharding = batch_sharding(mesh)
    shards, processes = mesh_module.num_batch_shards(mesh), jax.process_count()
    for name, array in batch.items():
        rows = array.shape[0] * processes
        if rows % shards:
            raise mesh_module.MeshError(
                f"batch field {name!r}: {rows} rows are not divisible by {shards} = data "
                f"{mesh.shape['data']} x fsdp {mesh.shape['fsdp']}"
            )
    return {name: jax.make_array_from_process_local_data(sharding, array) for name, array in batch.items()}


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
