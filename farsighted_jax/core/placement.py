"""The mesh that a computation is traced for: where its arrays lie, and on what kind of devices.

`traced_for` names it. Layers ask for it rather than being handed it: without a mesh they compute the
same, wherever XLA likes and without kernels of a particular device.
"""

from __future__ import annotations

import contextlib
import math

import jax
from jax.sharding import Mesh, PartitionSpec

BATCH_AXES = ("data", "fsdp")
HEADS_AXIS = "tensor"


def traced_for(mesh: Mesh | None) -> contextlib.AbstractContextManager:
    """What is traced within is for this mesh, whose devices may be absent; None: for none."""
    return contextlib.nullcontext() if mesh is None else jax.set_mesh(mesh)


def platform() -> str | None:
    """Kind of the mesh's devices: "cpu", "gpu" or "tpu"; None without a mesh.

    Never that of the default backend: a step for TPUs can be compiled on a machine without any.
    """
    mesh = jax.sharding.get_abstract_mesh()
    device = None if mesh.empty else getattr(mesh, "abstract_device", None)
    if device is None:
        return None
    return {"cuda": "gpu", "rocm": "gpu"}.get(device.platform, device.platform)


def batch_axes(size: int) -> tuple[str, ...] | None:
    """The mesh axes that a batch of this size is spread over; None without a mesh, or where it can't be."""
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or size % math.prod(mesh.shape[name] for name in BATCH_AXES):
        return None
    return BATCH_AXES


def heads_axis(num_heads: int) -> str | None:
    """The mesh axis that attention heads are spread over; None where it does not divide them."""
    mesh = jax.sharding.get_abstract_mesh()
    return None if mesh.empty or num_heads % mesh.shape[HEADS_AXIS] else HEADS_AXIS


def spread(x_BX: jax.Array) -> jax.Array:
    """Keeps activations spread over the batch, whatever the parameters they meet are spread over.

    Otherwise XLA may replicate them next to parameters that lie in parts on the axis "fsdp", and every
    device computes the whole batch. Other axes lie as XLA likes.

    Args:
      x_BX: [B, ...]; B or a multiple of it in front, folded.
    """
    axes = batch_axes(x_BX.shape[0])
    if axes is None:
        return x_BX
    rest = (PartitionSpec.UNCONSTRAINED,) * (x_BX.ndim - 1)
    return jax.lax.with_sharding_constraint(x_BX, PartitionSpec(axes, *rest))
