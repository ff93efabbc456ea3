"""The training loop: the only one, for every task."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from farsighted_jax import __version__
from farsighted_jax.checkpoint.manager import CheckpointStore
from farsighted_jax.checkpoint.manifest import write_atomically
from farsighted_jax.core import config as config_module
from farsighted_jax.core import hosts, placement
from farsighted_jax.core.task import Task
from farsighted_jax.layers import attention_kernels
from farsighted_jax.sharding import mesh as mesh_module
from farsighted_jax.sharding import place
from farsighted_jax.sharding import rules as sharding_rules
from farsighted_jax.train import gate as gate_module
from farsighted_jax.train import goodput, guard, resume
from farsighted_jax.train import metrics as metrics_module
from farsighted_jax.train import state as train_state
from farsighted_jax.train.optimizer import make_optimizer
from farsighted_jax.train.profile import Trace
from farsighted_jax.train.state import TrainState
from farsighted_jax.train.step import make_train_step
from farsighted_jax.train.writer import MetricsWriter, Progress, Silence

# How many steps the host may be ahead of the device: enough to keep it busy, few enough that
# waiting batches do not fill its memory.
MAX_STEPS_AHEAD = 4

# Fields of a batch that say which windows stand in it.
IDS = ("dataset", "episode", "step")


class Stream(Protocol):
    """The data of a run, a pure function of the step."""

    statistics: Any
    fingerprint: str
    schedule: Any

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """This process's rows (`place.process_rows`) of the batch of one step (counted from 0)."""

    def batches(
        self, first_step: int, *, readers: int, prefetch: int
    ) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """(step, batch) from `first_step` on, without end."""

    def ids_digest(self, batch: Mapping[str, np.ndarray]) -> str:
        """Digest of the ordered (dataset, episode, step) ids of a batch."""


@dataclasses.dataclass(frozen=True)
class TrainResult:
    """Where a run ended.

    Attributes:
      state: the last state, on the mesh.
      step: number of steps done.
      state_digest: of the last checkpoint; "" if this call saved none.
    """

    state: TrainState
    step: int
    state_digest: str


OnLog = Callable[[int, TrainState, Mapping[str, Any]], Mapping[str, Any]]


def train(
    task: Task,
    stream: Stream,
    config: ConfigDict,
    workdir: str | Path,
    *,
    mesh: Mesh,
    rules: Sequence[sharding_rules.Rule] = sharding_rules.DEFAULT_RULES,
    init: str = "",
    load_pretrained: resume.LoadPretrained | None = None,
    documents: Mapping[str, str] | None = None,
    takeover: bool = False,
    on_log: Sequence[OnLog] = (),
    progress: Progress | None = None,
    profile: Sequence[int] = (),
    began: float | None = None,
) -> TrainResult:
    """Trains until `total_steps` (or `stop_step`), from where the run folder's last checkpoint ended.

    The host copies nothing from the device except at logged and saved steps. Where several
    processes run, each calls this with its own rows of the data; the first writes for all.

    Args:
      task: the model and its losses.
      stream: the data.
      config: see `configs/`; keys used here: seed, total_steps, stop_step, log_every,
        batch_size, optimizer, checkpoint, data.readers, data.prefetch, and gate if there is one.
      workdir: the run folder; one run at a time.
      mesh: from `make_mesh`.
      rules: sharding rules of the task's parameters.
      init: run folder whose weights a new run starts from; "" for none.
      load_pretrained: gives a new run the networks of `Task.pretrained_shapes`.
      documents: file name -> text of what else the run folder is to hold.
      takeover: take the folder over from a run that still holds it.
      on_log: called with (step, state, values) at logged steps; what they return is added to the line.
      progress: the display; one that suits the terminal by default.
      profile: steps, counted from 1, that the profiler traces.
      began: `time.perf_counter()` when the process began with the run, for the ledger of its time.

    Raises:
      ConfigError, MeshError, WorkdirError, RunLockError, ResumeError: before any work.
      TrainingDivergedError: `optimizer.max_bad_steps` in a row were not finite.
      CollapsedError: the metric of the gate stayed below its minimum.
      CheckpointWriteError: a save failed.
      HostError: another process failed, or has another configuration or other data.
      Interrupted: a signal came, to whichever process; the state is saved.
    """
    workdir = Path(workdir)
    hosts.check_alike({**_described(config, stream), "version": _versions()})
    shapes = _checked_shapes(config, mesh, workdir, stream)
    with contextlib.ExitStack() as stack:
        lock = guard.locked(workdir, takeover)
        if lock:
            stack.callback(lock.release)
        interrupts = stack.enter_context(guard.InterruptGuard())
        end = min(config.total_steps, config.stop_step or config.total_steps)
        progress = (progress or Progress(end)) if hosts.is_first() else Silence()
        stack.callback(progress.close)
        own = workdir if hosts.is_first() else None
        ledger = goodput.Ledger(own, began)
        stack.callback(ledger.close)
        hosts.from_first(lambda: resume.check_config(workdir, config, progress.message), "resuming")

        optimizer = make_optimizer(config.optimizer, config.total_steps)
        gate = gate_module.make_gate(config.get("gate"))
        health = gate_module.HealthWatch(gate, progress.message)
        initialize = train_state.initializer(task, optimizer, shapes, config)
        abstract = train_state.abstract_state(mesh, rules, initialize, task.pretrained_shapes())
        state = resume.starting_state(
            workdir, initialize, abstract, seed=config.seed, stream=stream, init=init,
            partial_init=task.partial_init, load_pretrained=load_pretrained, report=progress.message,
        )  # fmt: skip
        start = int(state.step)
        _write_documents(workdir, config, stream, documents or {})
        store = CheckpointStore(
            workdir, keep_last=config.checkpoint.keep_last, keep_every=config.checkpoint.keep_every,
            async_save=config.checkpoint.async_save, report=progress.message,
        )  # fmt: skip
        stack.callback(store.close)
        writer = MetricsWriter(own, resumed_step=start) if own else Silence()
        stack.callback(writer.close)
        if start >= end:
            progress.message(f"nothing to do: {start} steps of {end} are done")
            return TrainResult(state, start, "")
        frozen_digest = store.save_frozen(state.frozen)
        described = {**_described(config, stream), "statistics": stream.statistics}
        with ledger.within("compile"), attention_kernels.noting() as attentions:
            step_function = compiled_step(task, optimizer, gate, config, mesh, abstract, shapes)
        progress.message(f"attention: {', '.join(sorted({call.kernel for call in attentions})) or 'none'}")
        trace = Trace(own, profile, progress.message)
        stack.callback(trace.close)
        batches = stack.enter_context(contextlib.closing(_device_batches(stream, config, mesh, start, end)))

        def ids_digest(index):
            return stream.ids_digest(place.whole_fields(stream.batch(index), IDS, mesh))

        state_digest = ""
        progress.begin(start)
        ledger.done(start)
        ledger.to("steps")
        watch = metrics_module.Stopwatch()
        ahead: collections.deque = collections.deque()
        for step in range(start + 1, end + 1):
            with ledger.within("data"):
                item = watch.wait_for(batches)
            if item is None:
                raise ValueError(f"the stream ended before step {step} of {end}")
            _, host_batch, batch = item
            trace.before(step)
            state, metrics = step_function(state, batch)
            trace.after(step, metrics)
            watch.count(config.batch_size)
            ahead.append(metrics)
            if len(ahead) > MAX_STEPS_AHEAD:
                jax.block_until_ready(ahead.popleft())
            store.check()
            progress.advance(step)
            ledger.done(step)

            stopping = interrupts.stops_after(step) or step == end
            saving = stopping or step % config.checkpoint.every == 0
            logging = stopping or step == 1 or step % config.log_every == 0
            if not (saving or logging):
                continue
            values = metrics_module.to_host(metrics)
            with hosts.together(f"step {step}"):
                if lock:
                    lock.check()
            guard.check_divergence(values, config.optimizer.max_bad_steps, step, ids_digest)
            health.check(values, step)
            if saving:
                with watch.paused(), ledger.within("checkpoint"):
                    state_digest = store.save(step, train_state.to_items(state), described, frozen_digest)
                values["state_digest"] = state_digest
            if logging:
                values |= watch.read() | metrics_module.memory()
                values["data/ids_digest"] = stream.ids_digest(place.whole_fields(host_batch, IDS, mesh))
                values["train/goodput"] = ledger.totals()["goodput"]
                with ledger.within("evaluation"):
                    for function in on_log:
                        values |= function(step, state, values)
                writer.write(step, values)
                progress.show(step, values)
                ledger.write()
                watch.restart()
            if stopping:
                break
        with ledger.within("checkpoint"):
            store.wait()
        hosts.wait_for_all("end of the run")
        if interrupts.signal_number is not None:
            raise guard.Interrupted(interrupts.signal_number, step)
        return TrainResult(state, step, state_digest)


def _checked_shapes(config, mesh, workdir, stream):
    """Shapes of the global batch, if the run can begin."""
    with hosts.together("checking the run"):
        _check(config, mesh)
        guard.check_workdir(workdir)
        return _shapes(stream.batch(0), config.batch_size, mesh)


def _check(config, mesh):
    for key in ("total_steps", "log_every", "batch_size"):
        config_module.check_range(key, config[key], low=1)
    config_module.check_range("stop_step", config.stop_step, low=0)
    config_module.check_range("checkpoint.every", config.checkpoint.every, low=1)
    mesh_module.check_batch_size(mesh, config.batch_size, config.optimizer.accumulation)


def _described(config, stream):
    return {"config": config.to_dict(), "data": resume.data_document(stream)}


def _versions():
    return {"farsighted_jax": __version__, "jax": jax.__version__}


def _shapes(batch, batch_size, mesh):
    """Shapes of the global batch, from this process's part of it."""
    num_rows = len(place.process_rows(mesh, batch_size))
    for name, array in batch.items():
        if len(array) != num_rows:
            raise mesh_module.MeshError(
                f"batch field {name!r}: {len(array)} rows in process {jax.process_index()}, expected "
                f"batch size {batch_size}, of which {num_rows} rows belong here"
            )
    return {
        name: jax.ShapeDtypeStruct((batch_size, *array.shape[1:]), array.dtype)
        for name, array in batch.items()
    }


def _write_documents(workdir, config, stream, documents):
    if hosts.is_first():
        statistics = json.dumps(stream.statistics, indent=2, sort_keys=True) + "\n"
        texts = {resume.CONFIG: config_module.to_json(config), resume.STATISTICS: statistics, **documents}
        for name, text in texts.items():
            write_atomically(workdir / name, text)


def compiled_step(task, optimizer, gate, config, mesh, abstract, batch):
    """The step, compiled ahead of time: another shape is an error, never a second compilation."""
    return traced_step(task, optimizer, gate, config, mesh, abstract, batch).lower().compile()


def traced_step(task, optimizer, gate, config, mesh, abstract, batch):
    """`jax.stages.Traced` of the step on a mesh; its devices may be absent, see `plan`."""
    step = make_train_step(
        task, optimizer, accumulation=config.optimizer.accumulation, ema_decay=config.optimizer.ema_decay,
        max_bad_steps=config.optimizer.max_bad_steps, gate=gate,
    )  # fmt: skip
    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract)
    placed = place.batch_sharding(mesh)
    batch = {
        name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed) for name, leaf in batch.items()
    }
    jitted = jax.jit(step, out_shardings=(shardings, sharding_rules.replicated(mesh)), donate_argnums=0)
    with placement.traced_for(mesh):
        return jitted.trace(abstract, batch)


def _device_batches(stream, config, mesh, start, end):
    source = stream.batches(start, readers=config.data.readers, prefetch=config.data.prefetch)
    try:
        yield from place.device_prefetch(itertools.islice(source, end - start), mesh)
    finally:
        if hasattr(source, "close"):
            source.close()
