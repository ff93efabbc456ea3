"""A trained LAM as compiled functions on host batches: clips to codes, codes to frames."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from farsighted_jax.checkpoint.digest import content_digests, tree_digest
from farsighted_jax.lam.task import LamTask
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.place import batch_sharding

Arrays = Mapping[str, np.ndarray]


class CodeError(ValueError):
    """Codes that do not fit a model; the message has both sizes."""


class LatentActions:
    """Encodes and decodes with fixed weights.

    Attributes:
      codebook_size: V.
      num_slots: Z.
    """

    def __init__(
        self,
        task: LamTask,
        params: Any,
        model_state: Any,
        *,
        devices: Sequence[jax.Device] | None = None,
    ):
        """Compiles nothing yet; a function is compiled at the first call with new shapes.

        Args:
          task: model and quantiser.
          params: parameters.
          model_state: codebook.
          devices: rows of a batch are spread over these; by default one device holds all.
        """
        self.codebook_size, self.num_slots = task.quantizer.codebook_size, task.model.num_slots
        self._codebook_VU = np.asarray(task.quantizer.codebook_VU(params, model_state))
        self._rows = None
        if devices is not None and len(devices) > 1:
            mesh = make_mesh({"data": -1, "fsdp": 1, "tensor": 1}, devices)
            self._rows = batch_sharding(mesh)
            whole = NamedSharding(mesh, PartitionSpec())
            params, model_state = jax.device_put((params, model_state), whole)
        self._weights = params, model_state
        self._fields = task.fields
        self._encode, self._decode = _compiled(task)

    @functools.cached_property
    def digest(self) -> str:
        """Of parameters and codebook, 64 hex digits; codes of another digest mean something else."""
        items = zip(("params", "model_state"), self._weights, strict=True)
        digests = {name: content_digests(item) for name, item in items}
        return tree_digest(
            {f"{name}/{path}": d for name, found in digests.items() for path, d in found.items()}
        )

    def encode(self, batch: Arrays) -> dict[str, jax.Array]:
        """Codes of a batch of clips, see `LamTask.encode`."""
        return self._encode(*self._weights, self._placed(self._inputs(batch)))

    def decode(self, batch: Arrays, quantized_BtZU: np.ndarray) -> dict[str, jax.Array]:
        """Frames and depth from frame 0 of each clip and codes, see `LamTask.decode`."""
        return self._decode(self._weights[0], self._placed(self._inputs(batch)), quantized_BtZU)

    def encode_rows(self, batch: Arrays, rows: int) -> dict[str, np.ndarray]:
        """As `encode` for any number of clips, `rows` at a time, so that one compilation serves all."""
        num = len(batch["rgb"])
        parts = []
        for first in range(0, num, rows):
            chosen = np.minimum(np.arange(first, first + rows), num - 1)
            part = {name: values[chosen] for name, values in self._inputs(batch).items()}
            parts.append(jax.device_get(self._encode(*self._weights, self._placed(part))))
        return {name: np.concatenate([part[name] for part in parts])[:num] for name in parts[0]}

    def vectors(self, code_BtZ: np.ndarray) -> np.ndarray:
        """Code vectors, float32[..., Z, U]; CodeError for other slots or a code outside the codebook."""
        code_BtZ, size = np.asarray(code_BtZ), self.codebook_size
        if code_BtZ.shape[-1] != self.num_slots:
            raise CodeError(f"codes of {code_BtZ.shape[-1]} slots, but the model has {self.num_slots}")
        if code_BtZ.size and not 0 <= code_BtZ.min() <= code_BtZ.max() < size:
            found = f"[{code_BtZ.min()}, {code_BtZ.max()}]"
            raise CodeError(f"codes range over {found}, expected [0, {size - 1}]")
        return self._codebook_VU[code_BtZ]

    def _inputs(self, batch):
        """The fields that the model reads; an absent one is the model's error, which names it."""
        return {name: batch[name] for name in self._fields if name in batch}

    def _placed(self, inputs):
        return inputs if self._rows is None else jax.device_put(inputs, self._rows)


@functools.cache
def _compiled(task):
    """Encode and decode; models of the same task share what is compiled."""
    return jax.jit(task.encode), jax.jit(task.decode)
