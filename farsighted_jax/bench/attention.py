"""Measures every attention of a training step alone: the kernel that it runs in beside plain operations."""

from __future__ import annotations

import functools
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from farsighted_jax.bench import abstract_step
from farsighted_jax.bench.data import host
from farsighted_jax.bench.timing import milliseconds, program_mb, seconds_of
from farsighted_jax.core import placement
from farsighted_jax.core.task import Task
from farsighted_jax.layers import attention_kernels
from farsighted_jax.layers.attention import attention, causal_attention_over_time
from farsighted_jax.sharding.mesh import check_batch_size, make_mesh

SHAPES = ("queries", "keys", "mask")


def run(
    task: Task,
    config: ConfigDict,
    sample: Mapping[str, Any],
    *,
    steps: int = 20,
    warm_up: int = 3,
    devices: Sequence[jax.Device] | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Forward and backward pass of each attention that the step of a configuration has, on random input.

    Args:
      task: of the configuration.
      config: see `configs/`; no data are read.
      sample: batch of one sample, or its shapes.
      steps: how often each is timed.
      warm_up: how often before.
      devices: of the mesh, all by default.
      report: gets a line for each.

    Returns:
      For JSON. "calls": one entry for each that differs, however many layers have it: `kernel`, `ms` and
      `memory/program_mb`, and, under `beside`, the same of the other way of computing it: plain
      operations beside a kernel; beside attention over time the one that transposes tokens and frames.
      There `times` is its time divided by ours, and `difference` the largest of their results.

    Raises:
      MeshError: batch, accumulation and devices do not fit together.
    """
    mesh = make_mesh(config.mesh, devices)
    check_batch_size(mesh, config.batch_size, config.optimizer.accumulation)
    measured = []
    for call in attentions(task, config, sample, mesh):
        report(f"{call.kernel}: queries {list(call.queries)}, keys {list(call.keys)}")
        measured.append(_measured(call, mesh, steps, warm_up))
    return {
        "calls": measured,
        "steps": steps,
        "variant": config.model.variant,
        "batch_size": config.batch_size,
        "device": {
            "kind": mesh.devices.flat[0].device_kind, "count": mesh.size, "jax": jax.__version__,
        },
        "host": host(),
    }  # fmt: skip


def attentions(task, config, sample, mesh) -> list[attention_kernels.Call]:
    """The attentions of the training step, each once; nothing is computed."""
    with attention_kernels.noting() as calls:
        abstract_step.traced(task, config, sample, mesh, config.batch_size)
    return list(dict.fromkeys(calls))


def _measured(call, mesh, steps, warm_up):
    arrays = _arrays(call, mesh)
    ways = _ways(call)
    found, results = {}, {}
    with placement.traced_for(mesh):
        for name, way in ways.items():
            compiled = jax.jit(functools.partial(_passes, way)).lower(*arrays).compile()
            times = seconds_of(functools.partial(compiled, *arrays), steps, warm_up)
            found[name] = {"ms": milliseconds(statistics.median(times)), **program_mb(compiled)}
            results[name] = compiled(*arrays)
    ours, *others = found
    shapes = {name: shape and list(shape) for name, shape in call._asdict().items() if name in SHAPES}
    entry = {"kernel": call.kernel, **shapes, "dtype": call.dtype, **found[ours]}
    for other in others:
        both = zip(jax.tree.leaves(results[ours]), jax.tree.leaves(results[other]), strict=True)
        difference = max(float(jnp.max(jnp.abs(a.astype(jnp.float32) - b))) for a, b in both)
        entry["beside"] = {"way": other, **found[other]}
        entry |= {"times": round(found[other]["ms"] / found[ours]["ms"], 3), "difference": difference}
    return entry


def _ways(call):
    """Ours first, then what it is compared with."""
    if call.kernel == attention_kernels.OVER_TIME:
        return {"ours": causal_attention_over_time, "transposing": transposing}
    return {"ours": attention} | ({} if call.kernel == attention_kernels.PLAIN else {"plain": _plain})


def _plain(q, k, v, mask=None):
    return jax.nn.dot_product_attention(q, k, v, mask=mask)


def transposing(q_BTSAK, k_BTSAK, v_BTSAK):
    """Causal attention over the frames of each token by way of the general function."""
    B, T, S, A, K = q_BTSAK.shape

    def folded(x_BTSAK):
        return jnp.swapaxes(x_BTSAK, 1, 2).reshape(B * S, T, A, K)

    mask_11TT = jnp.tril(jnp.ones((1, 1, T, T), bool))
    out = jax.nn.dot_product_attention(*(folded(x) for x in (q_BTSAK, k_BTSAK, v_BTSAK)), mask=mask_11TT)
    return jnp.swapaxes(out.reshape(B, S, T, A, K), 1, 2)


def _passes(way, q, k, v, *mask):
    """The result, and the gradient of each input."""
    out, backward = jax.vjp(lambda *inputs: way(*inputs, *mask), q, k, v)
    return out, backward(out)


def _arrays(call, mesh):
    """Queries, keys, values and, if there is one, the mask, in which all see themselves at least."""
    rng = np.random.default_rng(0)
    arrays = [
        rng.standard_normal(shape, np.float32).astype(jnp.dtype(call.dtype))
        for shape in (call.queries, call.keys, call.keys)
    ]
    if call.mask is not None:
        arrays.append((rng.random(call.mask) < 0.8) | np.eye(*call.mask[-2:], dtype=bool))
    with placement.traced_for(mesh):
        axes = [placement.batch_axes(len(array)) if len(array) > 1 else None for array in arrays]
    return [
        jax.device_put(array, NamedSharding(mesh, PartitionSpec(axis)))
        for array, axis in zip(arrays, axes, strict=True)
    ]
