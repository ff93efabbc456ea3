"""Compiles the training step for chips that are not there, and says what it would need of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh
from ml_collections import ConfigDict

from farsighted_jax.bench import abstract_step
from farsighted_jax.bench.traced_flops import products
from farsighted_jax.core import tree
from farsighted_jax.core.task import Task
from farsighted_jax.plan import advice, memory
from farsighted_jax.plan.collectives import collectives
from farsighted_jax.plan.estimate import NOTE, roofline
from farsighted_jax.plan.hlo import attention_kernel, program
from farsighted_jax.plan.topology import PlanError, Topology, devices
from farsighted_jax.sharding.mesh import check_batch_size, make_mesh, num_batch_shards
from farsighted_jax.train.state import TrainState

# The TPU's compiler otherwise searches for the fastest convolutions and fusions, for most of its time. Peaks
# without are 1 to 3 % lower for `lam_pretrain.py:base`, up to half as high again for a small model. So what
# takes between these shares of a chip's memory is looked at again.
LEAST_EFFORT = {"exec_time_optimization_effort": -1.0}
UNSURE = (0.95, 2.0)


class CompiledStep(NamedTuple):
    """A step, compiled or found too large.

    Attributes:
      effort: of the compiler, "least" or "full".
      abstract: shapes and shardings of the state.
      executed_flops: of the traced step, all chips together.
      compile_s: seconds of tracing and compiling.
      peak_bytes: of one chip; None where the compiler does not say how much too much it is.
      text: of the program; "" where it is too large.
      complaint: of the compiler then.
    """

    effort: str
    abstract: TrainState
    executed_flops: int
    compile_s: float
    peak_bytes: int | None
    text: str
    complaint: str = ""


def run(
    task: Task,
    config: ConfigDict,
    sample: Mapping[str, Any],
    wanted: Topology,
    *,
    flops_per_sample: int,
    largest: bool = False,
    full_effort: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Plans the step that training runs; no data are read and nothing is computed.

    Args:
      task: of the configuration.
      config: see `configs/`.
      sample: batch of one sample, or its shapes, as the data pipeline would deliver it.
      wanted: the chips.
      flops_per_sample: of the model's training step, without what is computed twice.
      largest: compile a second time, with another batch, to tell how large a batch fits.
      full_effort: compile as training does, three to six times as long. Otherwise that is
        done only if the least effort leaves open whether it fits.
      report: gets a line before each compilation.

    Returns:
      For JSON; see "Plan" in launch/README.md. Where the step does not fit, what
      would come from the compiled program is None.

    Raises:
      PlanError: see `topology.devices`.
      MeshError: batch, accumulation, mesh and chips do not fit together.
    """
    mesh = make_mesh(config.mesh, devices(wanted))
    pieces = config.optimizer.accumulation * num_batch_shards(mesh)
    check_batch_size(mesh, config.batch_size, config.optimizer.accumulation)
    report(f"compiling the step for {wanted.num_chips} chips ({wanted.name})")
    hbm = wanted.facts.hbm_gib * memory.GIB
    full_effort |= wanted.simulated
    step = compiled(task, config, sample, mesh, config.batch_size, full_effort)
    if not full_effort and (step.peak_bytes is None or UNSURE[0] < step.peak_bytes / hbm < UNSURE[1]):
        report("that leaves open whether it fits: compiling again, as training would")
        step = compiled(task, config, sample, mesh, config.batch_size, full_effort=True)
    fits, rows = bool(step.text) and step.peak_bytes <= hbm, config.batch_size // pieces
    other = None
    if largest:
        other_rows = 2 * rows if fits or rows == 1 else rows // 2
        report(f"compiling it with {other_rows} instead of {rows} samples a chip")
        found = compiled(task, config, sample, mesh, other_rows * pieces, step.effort == "full")
        other = (other_rows, found.peak_bytes) if found.peak_bytes is not None else None
    facts = _program_facts(step, config, wanted, flops_per_sample)
    document = {"fits": fits} | _sizes(step, config, wanted, flops_per_sample) | facts
    document |= _setting(config, wanted, mesh) | advice.batch(step, hbm, rows, pieces, other)
    document["suggested_mesh"] = advice.mesh(step.abstract, wanted)
    document["change"] = [] if fits else advice.changes(config, document, rows)
    return document


def compiled(
    task: Task,
    config: ConfigDict,
    sample: Mapping[str, Any],
    mesh: Mesh,
    batch_size: int,
    full_effort: bool,
) -> CompiledStep:
    """Traces and compiles the step of `train.loop` for a batch size."""
    begin, effort = time.perf_counter(), "full" if full_effort else "least"
    abstract, traced = abstract_step.traced(task, config, sample, mesh, batch_size)
    flops = products(traced.jaxpr.jaxpr)
    try:
        step = traced.lower().compile(compiler_options=None if full_effort else LEAST_EFFORT)
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise PlanError(f"the compiler gave up: {str(error).splitlines()[0]}") from error
        needed, complaint = memory.overflow_bytes(str(error)), str(error).splitlines()[0]
        return CompiledStep(effort, abstract, flops, time.perf_counter() - begin, needed, "", complaint)
    seconds = time.perf_counter() - begin
    simulated = mesh.devices.flat[0].platform == "cpu"
    peak = memory.peak_bytes(step, simulated)
    return CompiledStep(effort, abstract, flops, seconds, peak, step.as_text())


def _sizes(step, config, wanted, flops_per_sample):
    """What the step needs of a chip, and how much it computes."""
    state, peak = memory.state_gib(step.abstract), step.peak_bytes
    rest = None if peak is None else round(peak / memory.GIB - sum(state.values()), 3)
    return {
        "peak_gib_per_chip": None if peak is None else round(peak / memory.GIB, 3),
        "hbm_gib_per_chip": round(wanted.facts.hbm_gib, 2),
        "compile_s": round(step.compile_s, 1),
        "effort": step.effort,
        "params": tree.num_elements(step.abstract.params),
        "frozen_params": tree.num_elements(step.abstract.frozen),
        "flops_per_step": flops_per_sample * config.batch_size,
        "executed_flops_per_step": step.executed_flops,
        # The rest: activations, gradients, the batch, intermediate results.
        "memory": {name: round(gib, 3) for name, gib in state.items()} | {"activations_gib": rest},
        "compiler_says": step.complaint,
    }


def _setting(config, wanted, mesh):
    """What was asked."""
    return {
        "topology": {"name": wanted.name, "slices": wanted.num_slices, "chips": wanted.num_chips},
        "mesh": dict(mesh.shape),
        "batch_size": config.batch_size,
        "accumulation": config.optimizer.accumulation,
        "task": config.task,
        "variant": config.model.variant,
        "simulated": wanted.simulated,
        "jax": jax.__version__,
    }


def _program_facts(step, config, wanted, flops_per_sample):
    """What the compiled program tells, and what follows from it."""
    names = (
        "collectives",
        "step_s_estimate",
        "mfu_estimate",
        "samples_per_s_estimate",
        "attention",
        "estimate",
    )
    if not step.text:
        return dict.fromkeys(names)
    found = program(step.text)
    messages = collectives(found, wanted.num_chips, wanted.num_slices)
    times = roofline(
        wanted.facts,
        num_chips=wanted.num_chips,
        executed_flops=step.executed_flops,
        peak_bytes=step.peak_bytes,
        collectives=messages,
    )
    seconds, model = times["step_s"], flops_per_sample * config.batch_size
    return {
        "collectives": {
            kind: {name: round(value, 5) for name, value in entry.items()} for kind, entry in messages.items()
        },
        "unknown_loops": found.unknown_loops,
        "step_s_estimate": _digits(seconds),
        "mfu_estimate": _digits(model / (seconds * wanted.num_chips * wanted.facts.peak_flops)),
        "samples_per_s_estimate": _digits(config.batch_size / seconds),
        "attention": "unknown: compiled for the CPU" if wanted.simulated else attention_kernel(found),
        "estimate": {name: _digits(value) for name, value in times.items()} | {"note": NOTE},
    }


def _digits(value):
    return float(f"{value:.4g}")
