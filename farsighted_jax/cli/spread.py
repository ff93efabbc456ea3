"""Evaluation by several processes: each reads its rows of a batch, all compute, every one has the results."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from ml_collections import ConfigDict

from data_pipelines.stream import Stream
from farsighted_jax.cli.run import stream_for
from farsighted_jax.core import hosts
from farsighted_jax.sharding import place
from farsighted_jax.sharding import rules as sharding_rules
from farsighted_jax.sharding.mesh import check_batch_size, make_mesh


def mesh_of_all() -> Mesh | None:
    """A mesh over all devices of several processes; None where one process runs."""
    return make_mesh({"data": -1, "fsdp": 1, "tensor": 1}) if jax.process_count() > 1 else None


def everywhere(mesh: Mesh | None) -> NamedSharding | None:
    """The sharding of weights that every device of the mesh holds in full; None without a mesh."""
    return mesh and sharding_rules.replicated(mesh)


class WholeStream:
    """A stream whose batches are whole on every process, although each reads only its rows of them."""

    def __init__(self, stream: Stream):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """All else is the stream's own."""
        return getattr(self._stream, name)

    def batch(self, step: int) -> Mapping[str, np.ndarray]:
        """All rows of batch `step`."""
        return hosts.joined_rows(self._stream.batch(step))

    def epoch(self) -> Iterator[Mapping[str, np.ndarray]]:
        """All rows of every window once, see `Stream.epoch`."""
        return map(hosts.joined_rows, self._stream.epoch())


def open_whole(config: ConfigDict, **options: Any) -> Stream | WholeStream:
    """`run.stream_for` without augmentation, whose batches are whole however many processes run."""
    stream = stream_for(config, train=False, **options)
    return WholeStream(stream) if jax.process_count() > 1 else stream


def over_devices(functions: Any, mesh: Mesh | None, batch_size: int) -> Any:
    """A model's functions with the rows of their arguments over all devices, and whole results.

    Args:
      functions: dataclass of functions of host arrays, whose weights lie `everywhere`.
      mesh: of `mesh_of_all`; without one the functions stay as they are.
      batch_size: rows of each call.

    Raises:
      MeshError: the rows do not divide over the devices.
    """
    if mesh is None:
        return functions
    check_batch_size(mesh, batch_size)
    sharding = place.batch_sharding(mesh)

    def placed(leaf):
        array = np.asarray(leaf)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    def spread(function):
        return lambda *arguments: hosts.whole(function(*jax.tree.map(placed, arguments)))

    found = {field.name: getattr(functions, field.name) for field in dataclasses.fields(functions)}
    return dataclasses.replace(
        functions, **{name: spread(value) for name, value in found.items() if callable(value)}
    )
