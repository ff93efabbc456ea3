"""Measures the training step of a LAM on random input: rate, utilisation, memory, share of each part."""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from farsighted_jax.bench.data import host
from farsighted_jax.bench.devices import peak_flops, utilization
from farsighted_jax.bench.flops import lam_flops, num_patches, token_width
from farsighted_jax.bench.parts import lam_parts
from farsighted_jax.bench.timing import milliseconds, program_mb, random_networks, seconds_of
from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.task import LamTask
from farsighted_jax.layers import attention_kernels
from farsighted_jax.sharding import place
from farsighted_jax.sharding import rules as sharding_rules
from farsighted_jax.sharding.mesh import check_batch_size, make_mesh
from farsighted_jax.train import gate as gate_module
from farsighted_jax.train import loop, metrics
from farsighted_jax.train import state as train_state
from farsighted_jax.train.optimizer import make_optimizer


def run(
    task: LamTask,
    config: ConfigDict,
    *,
    steps: int = 20,
    warm_up: int = 3,
    devices: Sequence[jax.Device] | None = None,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Runs the step that training runs, then its parts one by one.

    The batch stays on the devices: reading data is measured by `bench.data`.
    Pretrained networks get random weights, which are as fast as real ones.

    Args:
      task: of the configuration.
      config: see `configs/`; its dataset is not opened.
      steps: how many are timed.
      warm_up: how many run before.
      devices: of the mesh, all by default.
      report: gets a line before each compilation.

    Returns:
      For JSON. Times are medians over single steps, in milliseconds; compiling the step
      is `compile_s`, the kernels of its attention are `attention`. `parts`: each timed alone,
      forward and backward, and its share of the step. What is left is the quantiser, the losses
      and the optimizer; since a compiler joins what it can, the shares are no exact sum. `mfu`
      and `flops_per_sample` rest on the count of `bench.flops`; where `mfu` is None `mfu_note`
      says why. Memory in MB (2**20 bytes): resident, at its peak on the first device where the
      backend tells, and what the compiled step needs of one device (arguments, results, temporary).

    Raises:
      MeshError: batch, accumulation and devices do not fit together.
    """
    mesh = make_mesh(config.mesh, devices)
    check_batch_size(mesh, config.batch_size, config.optimizer.accumulation)
    state, step, compiling = compiled_step(task, config, mesh, report)
    batch = place.shard_batch(random_batch(config, config.batch_size), mesh)
    found = {}

    def advance():
        nonlocal state, found
        state, found = step(state, batch)
        return state, found

    times = seconds_of(advance, steps, warm_up)
    memory = metrics.memory() | program_mb(step)
    step_s = statistics.median(times)
    parts = _timed_parts(task, config, mesh, state, steps, warm_up, report)
    rate, kind = config.batch_size / step_s, mesh.devices.flat[0].device_kind
    return {
        "samples_per_s": round(rate, 3),
        "step_ms": milliseconds(step_s),
        "step_ms_range": [milliseconds(min(times)), milliseconds(max(times))],
        **compiling,
        **_arithmetic(config, rate, kind, mesh.size),
        "parts": {name: {"ms": milliseconds(s), "share": round(s / step_s, 4)} for name, s in parts.items()},
        **memory,
        "loss": round(float(found["loss"][0]), 6),
        "steps": steps,
        "batch_size": config.batch_size,
        "accumulation": config.optimizer.accumulation,
        "frames_per_sample": len(config.data.offsets_s) + 1,
        "resolution": config.data.resolution,
        "variant": config.model.variant,
        "dtype": config.model.dtype,
        "trainable_params": tree.num_elements(state.params),
        "frozen_params": tree.num_elements(state.frozen),
        "device": {"kind": kind, "count": mesh.size, "jax": jax.__version__},
        "host": host(),
    }


def compiled_step(task: LamTask, config: ConfigDict, mesh: jax.sharding.Mesh, report: Callable[[str], None]):
    """A fresh state, the step that the loop would run, and what compiling told: `compile_s`, `attention`."""
    optimizer, gate = make_optimizer(config.optimizer, config.total_steps), gate_module.make_gate(config.gate)
    shapes = {
        name: jax.ShapeDtypeStruct((config.batch_size, *array.shape[1:]), array.dtype)
        for name, array in random_batch(config, 1).items()
    }
    initialize = train_state.initializer(task, optimizer, shapes, config)
    networks = task.pretrained_shapes()
    abstract = train_state.abstract_state(mesh, sharding_rules.DEFAULT_RULES, initialize, networks)
    networks = random_networks(abstract.frozen.get(PRETRAINED, {}))
    state = train_state.create(initialize, abstract, config.seed, networks)
    report("compiling the step")
    begin = time.perf_counter()
    with attention_kernels.noting() as attentions:
        step = loop.compiled_step(task, optimizer, gate, config, mesh, abstract, shapes)
    kernels = sorted({call.kernel for call in attentions})
    return state, step, {"compile_s": round(time.perf_counter() - begin, 2), "attention": kernels}


def random_batch(config: Mapping[str, Any], num_samples: int) -> dict[str, np.ndarray]:
    """A batch as the data pipeline would deliver it, of noise; nothing is masked.

    Depth is in it unless the configuration switches it off; windows of an
    episode stand side by side, as the sampler puts them.
    """
    data = config["data"]
    rng, size = np.random.default_rng(0), data["resolution"]
    time_s_T = np.array((0.0, *data["offsets_s"]), np.float32)
    clip = (num_samples, len(time_s_T), size, size)
    row_B = np.arange(num_samples, dtype=np.int32)
    batch = {
        "rgb": rng.integers(0, 256, (*clip, 3), np.uint8),
        "time_s": np.tile(time_s_T, (num_samples, 1)),
        "frame_valid": np.ones(clip[:2], bool),
        "dataset": np.zeros_like(row_B),
        "episode": row_B // data["windows_per_episode"],
        "step": row_B % data["windows_per_episode"],
    }
    if data.get("image_features"):
        shape = (*clip[:2], num_patches(config["model"], size), token_width(config["model"]))
        # The upper half of a float32 is a bfloat16.
        token_BTNE = rng.standard_normal(shape, np.float32).view(np.uint32) >> 16
        batch["image_token"] = token_BTNE.astype(np.uint16)
    if data["depth"] == "off":
        return batch
    return batch | {
        "depth": rng.standard_normal((*clip, 1), np.float32),
        "depth_valid": np.ones((*clip, 1), bool),
        "depth_center": np.zeros(num_samples, np.float32),
        "depth_scale": np.ones(num_samples, np.float32),
    }


def _timed_parts(task, config, mesh, state, steps, warm_up, report):
    """Seconds that each part takes of a step, median."""
    pieces = config.optimizer.accumulation
    batch = place.shard_batch(random_batch(config, config.batch_size // pieces), mesh)
    seconds = {}
    for name, part in lam_parts(task, tree.merged(state.params, state.frozen), batch).items():
        report(f"compiling the part {name!r}")
        call = functools.partial(jax.jit(part.passes), part.learned, part.given)
        seconds[name] = pieces * part.times * statistics.median(seconds_of(call, steps, warm_up))
    return seconds


def _arithmetic(config, rate, kind, num_devices):
    counted = lam_flops(config)
    total = sum(part.step for part in counted.values())
    share, note = utilization(rate * total, kind, num_devices, config.model.dtype)
    if config.optimizer.freeze:
        share, note = None, "optimizer.freeze is set, the count takes all of the model as trained"
    return {
        "mfu": None if share is None else round(share, 4),
        **({"mfu_note": note} if note else {}),
        "tflop_per_s": round(rate * total / 1e12, 4),
        "peak_tflop_per_s": None if share is None else peak_flops(kind) * num_devices / 1e12,
        "flops_per_sample": {
            "forward": sum(part.forward for part in counted.values()),
            "step": total,
            "step_parts": {name: part.step for name, part in counted.items()},
        },
    }
