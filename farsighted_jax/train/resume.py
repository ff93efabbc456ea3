"""How a run starts: resume, else warm start from another run, else scratch; and what may have changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from ml_collections import ConfigDict

from farsighted_jax.checkpoint import manifest, restore
from farsighted_jax.checkpoint.manager import CHECKPOINTS
from farsighted_jax.core import config as config_module
from farsighted_jax.core import hosts, tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.train import state as train_state
from farsighted_jax.train.state import TrainState
from farsighted_jax.train.warm_start import LoadPretrained, loaded_pretrained, warm_started_state

CONFIG = "config.json"
STATISTICS = "statistics.json"

# Keys that change neither a step nor a batch that was used: where data lie, how fast they are read, on which
# devices, what is computed twice, when to log, save and stop, and which mixture the batches to come are of.
SAFE_KEYS = (
    "stop_step", "log_every", "checkpoint.every", "checkpoint.keep_last", "checkpoint.keep_every",
    "checkpoint.async_save", "data.dir", "data.mixture", "data.cache_dir", "data.readers", "data.prefetch",
    "data.memory_mb", "mesh.data", "mesh.fsdp", "mesh.tensor", "model.remat", "eval.evaluators",
    "eval.batch_size", "eval.fit_batches", "eval.gap_batches", "gate.patience",
)  # fmt: skip


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
        before = config_module.from_json(path.read_text(encoding="utf-8"))
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
    """What a checkpoint records of the data, beside their statistics: by dataset, and their order."""
    return {
        "fingerprint": stream.fingerprint,
        "fingerprints": stream.fingerprints,
        "datasets": list(stream.names),
        "schedule": stream.schedule,
    }


def earlier_data(workdir: Path) -> tuple[int, dict[str, Any]] | None:
    """(step, `data_document`) of the newest checkpoint whose documents can be read, or None."""
    for step in reversed(manifest.complete_steps(workdir / CHECKPOINTS)):
        try:
            return step, restore.read_document(workdir / CHECKPOINTS / str(step), "data")
        except (manifest.CorruptCheckpointError, FileNotFoundError):
            # Whether an older one is taken is for `starting_state` to say.
            continue
    return None


def check_data(step_folder: Path, stream: Any) -> None:
    """Compares the data with those that a checkpoint was trained on.

    A dataset may be added and weights may change for the batches to come, never for those that were used.

    Raises:
      ResumeError: a fingerprint, or the schedule before this step, differs; lists which, and the statistics
        that changed.
    """
    before, step = restore.read_document(step_folder, "data"), int(step_folder.name)
    found = data_document(stream)
    lines = config_module.difference(_compared(before, before, step), _compared(found, before, step))
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
    init: str = "",
    partial_init: bool = False,
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
      init: another run's folder, whose weights a new run takes.
      partial_init: see `warm_start.warm_started_state`.
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
    if not init:
        wanted = abstract.frozen.get(PRETRAINED, {})
        pretrained = loaded_pretrained(wanted, load_pretrained, report)
        fresh = train_state.create(initialize, abstract, seed, pretrained)
        report(f"starting from scratch, {tree.num_elements(abstract.params)} trainable parameters")
        return fresh
    return warm_started_state(
        Path(init), initialize, abstract, seed=seed, partial=partial_init, load_pretrained=load_pretrained,
        report=report,
    )  # fmt: skip


def is_resumed(workdir: Path) -> bool:
    """Whether a run in this folder would go on from a checkpoint."""
    return bool(manifest.complete_steps(workdir / CHECKPOINTS))


def _compared(document, before, step):
    """What of a `data_document` the first `step` batches depended on, by the datasets of `before`.

    Weights to the digits that decide a batch, see `data_pipelines.mixture`. A checkpoint that does not know
    fingerprints by dataset has one for all.
    """
    schedule = [
        [first, {name: round(weight, 6) for name, weight in sorted(weights.items())}]
        for first, weights in document["schedule"]
        if first < step
    ]
    known = before.get("fingerprints")
    if known is None:
        return {"schedule": schedule, "fingerprint": document["fingerprint"]}
    found = document["fingerprints"]
    return {"schedule": schedule, "fingerprint": {name: found[name] for name in known if name in found}}


def _set_aside_later_steps(workdir, step):
    """Corrupt steps are no longer listed, since training will write them anew; the next run removes them."""
    if not hosts.is_first():
        return
    for later in manifest.complete_steps(workdir / CHECKPOINTS):
        if later > step:
            folder = workdir / CHECKPOINTS / str(later)
            folder.rename(folder.with_name(f"corrupt-{later}"))
