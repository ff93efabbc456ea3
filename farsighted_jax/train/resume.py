"""How a run starts: resume, else warm start from another run, else scratch; and what may have changed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from farsighted_jax.checkpoint import manifest, restore
from farsighted_jax.checkpoint.manager import CHECKPOINTS
from farsighted_jax.core import config as config_module
from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.train import state as train_state
from farsighted_jax.train.state import TrainState

CONFIG = "config.json"
STATISTICS = "statistics.json"

# Keys that change neither a step nor its batch: where data lie, how fast they are read, on which
# devices, when to log, save and stop.
SAFE_KEYS = (
    "stop_step", "log_every", "checkpoint.every", "checkpoint.keep_last", "checkpoint.keep_every",
    "checkpoint.async_save", "data.dir", "data.cache_dir", "data.readers", "data.prefetch",
    "mesh.data", "mesh.fsdp", "mesh.tensor", "eval.evaluators", "eval.batch_size", "eval.fit_batches",
    "eval.gap_batches", "gate.patience",
)  # fmt: skip


# Shapes with shardings by name of the network -> its values, placed like them.
LoadPretrained = Callable[[Mapping[str, Any]], Mapping[str, Any]]


class ResumeError(ValueError):
    """The run in this folder cannot go on with this configuration or these data; the message lists why."""


def check_config(workdir: Path, config: ConfigDict, report: Callable[[str], None]) -> None:
    """Compares with the configuration of the run's earlier part, if it has a checkpoint.

    Raises:
      ResumeError: lists every changed key that is not one of `SAFE_KEYS`.
    """
    if not is_resumed(workdir):
        return
    path = workdir / CONFIG
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ResumeError(f"{path}: the configuration of the run to resume is unreadable: {error}") from error
    unsafe = config_module.difference(before, config, SAFE_KEYS)
    if unsafe:
        raise ResumeError(
            f"{workdir} holds a run with another configuration; changed keys:\n  "
            + "\n  ".join(unsafe)
            + "\nuse the old values, or another run folder (with a warm start from this one)"
        )
    changed = config_module.difference(before, config)
    if changed:
        report("resuming with changed keys: " + "; ".join(changed))


def data_document(stream: Any) -> dict[str, Any]:
    """What a checkpoint records of the data, beside their statistics."""
    return {"fingerprint": stream.fingerprint, "schedule": stream.schedule}


def check_data(step_folder: Path, stream: Any) -> None:
    """Compares the data with those that a checkpoint was trained on.

    Raises:
      ResumeError: the fingerprint or the schedule differs; lists which, and the statistics that changed.
    """
    before = restore.read_document(step_folder, "data")
    lines = config_module.difference(before, data_document(stream))
    if lines:
        statistics = restore.read_document(step_folder, "statistics")
        lines += config_module.difference({"statistics": statistics}, {"statistics": stream.statistics})
        raise ResumeError(f"{step_folder}: the data changed since this checkpoint:\n  " + "\n  ".join(lines))


def starting_state(
    workdir: Path,
    initialize: Callable[[jax.Array], TrainState],
    abstract: TrainState,
    *,
    seed: int,
    stream: Any,
    init_from: str = "",
    load_pretrained: LoadPretrained | None = None,
    report: Callable[[str], None] = print,
) -> TrainState:
    """The state to start from, on the mesh.

    A run folder is self-contained: whoever resumes or warm starts takes the
    pretrained networks from it, wherever they came from at first.

    Args:
      workdir: the run folder; its newest intact step wins over everything else.
      initialize: key -> fresh state.
      abstract: its shapes and shardings.
      seed: of the run.
      stream: the data, compared with what the checkpoint was trained on.
      init_from: another run's folder, whose parameters and model state a new run takes.
      load_pretrained: gives the pretrained networks that no run folder gives.
      report: gets one line that says where the state came from.

    Raises:
      ResumeError, StructureError, NoCheckpointError, CorruptCheckpointError: see their modules.
    """
    found = restore.restore_newest(workdir, train_state.abstract_items(abstract), report)
    if found is not None:
        step, items, body = found
        check_data(workdir / CHECKPOINTS / str(step), stream)
        _set_aside_later_steps(workdir, step)
        report(f"resumed from step {step} in {workdir}, state digest {body['state']}")
        return train_state.from_items(items, abstract)
    if not init_from:
        wanted = abstract.frozen.get(PRETRAINED, {})
        fresh = train_state.create(initialize, abstract, seed, _loaded(wanted, load_pretrained, report))
        report(f"starting from scratch, {tree.num_elements(abstract.params)} trainable parameters")
        return fresh
    step, weights = restore.read_weights(Path(init_from))
    _take_over_pretrained(weights["params"], abstract, load_pretrained, report)
    report(f"warm start from step {step} in {init_from}")
    return _with_weights(train_state.create(initialize, abstract, seed), abstract, weights, init_from)


def is_resumed(workdir: Path) -> bool:
    """Whether a run in this folder would go on from a checkpoint."""
    return bool(manifest.complete_steps(workdir / CHECKPOINTS))


def _loaded(wanted, load, report):
    """Pretrained networks by name, on the mesh; {} if none are wanted."""
    if not wanted:
        return {}
    if load is None:
        raise ValueError(
            f"the task has pretrained networks {sorted(wanted)}, but no loader of them was given"
        )
    report(f"loading pretrained {', '.join(sorted(wanted))}")
    values = dict(load(wanted))
    lines = tree.structure_difference(wanted, values)
    if lines:
        raise restore.StructureError("pretrained networks of other shapes:\n  " + "\n  ".join(lines))
    return values


def _take_over_pretrained(params, abstract, load, report):
    """Keeps those of another run's pretrained networks that this one has, and loads those it lacks."""
    wanted, found = abstract.frozen.get(PRETRAINED, {}), params.pop(PRETRAINED, {})
    kept = {name: network for name, network in found.items() if name in wanted}
    absent = {name: network for name, network in wanted.items() if name not in found}
    if wanted:
        params[PRETRAINED] = kept | _loaded(absent, load, report)


def _set_aside_later_steps(workdir, step):
    """Corrupt steps are no longer listed, since training will write them anew; the next run removes them."""
    for later in manifest.complete_steps(workdir / CHECKPOINTS):
        if later > step and jax.process_index() == 0:
            folder = workdir / CHECKPOINTS / str(later)
            folder.rename(folder.with_name(f"corrupt-{later}"))


def _with_weights(fresh, abstract, weights, source):
    wanted = {"params": tree.merged(abstract.params, abstract.frozen), "model_state": abstract.model_state}
    lines = tree.structure_difference(wanted, weights)
    if lines:
        raise restore.StructureError(f"{source}: checkpoint of another model:\n  " + "\n  ".join(lines))
    flat = tree.flat_paths(weights["params"])

    def placed(values, targets):
        return jax.tree.map(lambda value, target: jax.device_put(value, target.sharding), values, targets)

    params, frozen = (
        tree.map_with_path(lambda path, target: jax.device_put(flat[path], target.sharding), targets)
        for targets in (abstract.params, abstract.frozen)
    )
    return fresh.replace(
        params=params,
        frozen=frozen,
        model_state=placed(weights["model_state"], abstract.model_state),
        ema=jax.tree.map(lambda leaf: leaf.copy(), params) if abstract.ema else {},
    )
