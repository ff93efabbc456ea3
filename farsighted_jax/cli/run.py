"""A run as every command sees it: its task, its data, its mesh, and a run folder read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding
from ml_collections import ConfigDict

from data_pipelines.language.instructions import tokenizer_for
from data_pipelines.language.piece_tokenizer import FILE as TOKENIZER
from data_pipelines.mixture import parse_mixture
from data_pipelines.stream import Stream, open_stream
from farsighted_jax.checkpoint import release, restore
from farsighted_jax.cli.image_features import check_stored
from farsighted_jax.cli.policy_run import TEXT_DOCUMENT, policy_run, policy_zeros
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.allocator import keep_freed_memory
from farsighted_jax.core.batch import DEPTH_CONSTANTS, zeros
from farsighted_jax.core.task import PRETRAINED, Task
from farsighted_jax.lam.objective import DEPTH_FIELDS
from farsighted_jax.lam.task import LamTask, lam_task
from farsighted_jax.policy.task import PolicyTask
from farsighted_jax.pretrained import folder as pretrained_folder
from farsighted_jax.pretrained.networks import load_placed
from farsighted_jax.train import resume
from farsighted_jax.train.resume import CONFIG, STATISTICS
from farsighted_jax.train.warm_start import LoadPretrained

TASKS = ("lam", "policy_pretrain", "policy_finetune")


def keep_memory_on_cpu() -> None:
    """For a process that trains or measures steps, see `core.allocator`; nothing on accelerators."""
    if jax.default_backend() == "cpu":
        keep_freed_memory()


class RunError(ValueError):
    """A folder is not a run; the message names it and what it lacks."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained run, read back for inference.

    Attributes:
      config: its resolved configuration.
      task: model and losses.
      statistics: dataset -> statistics its inputs were normalised with.
      step: number of training steps done.
      params: parameters, the averaged ones if the run kept them.
      model_state: codebook of a LAM.
    """

    config: ConfigDict
    task: LamTask | PolicyTask
    statistics: Mapping[str, Any]
    step: int
    params: Any
    model_state: Any


@dataclasses.dataclass(frozen=True)
class Parts:
    """What a configuration makes, besides data.

    Attributes:
      task: model and losses.
      documents: file name -> text of what the run folder holds beside configuration and statistics.
      load_pretrained: see `train.warm_start.LoadPretrained`.
      check_stream: complains of a stream that does not fit the task.
    """

    task: Task
    documents: Mapping[str, str]
    load_pretrained: LoadPretrained
    check_stream: Callable[[Stream], None]


def parts_for(config: ConfigDict, folder: Path | None = None, resumed: bool = False) -> Parts:
    """Builds the task that a configuration names.

    Args:
      config: of a run.
      folder: its run folder if it has been trained: what else it needs is read from there.
      resumed: whether training goes on, perhaps with datasets that the folder does not know.

    Raises:
      ConfigError: a task that is unknown, inconsistent or lacks a key.
    """
    config_lib.check_choice("task", config.task, TASKS)
    try:
        if config.task == "lam":
            return Parts(
                lam_task(config),
                {},
                load_placed,
                lambda stream: check_stored(config, stream.image_features, folder),
            )
        run = policy_run(config, folder, resumed)

        def check(stream):
            run.check_codes(stream.codes)
            run.check_text(stream.text_features)

        return Parts(run.task, run.documents(), run.load_pretrained, check)
    except KeyError as error:
        raise config_lib.ConfigError(
            f"the configuration lacks the key {error.args[0]}; it was written by hand or by another version"
        ) from error


def task_for(config: ConfigDict, folder: Path | None = None) -> Task:
    """The task of `parts_for`."""
    return parts_for(config, folder).task


def stream_for(
    config: ConfigDict,
    *,
    batch_size: int | None = None,
    train: bool = True,
    rows: Sequence[int] | None = None,
    **changes: Any,
) -> Stream:
    """Opens the configuration's data.

    Args:
      config: of a run.
      batch_size: rows of the global batch, the run's by default.
      train: see `open_stream`.
      rows: those that this process reads; by default its share, in order.
      changes: keys of `config.data`, or `statistics`, `schedule` and `resumed_at` of `open_stream`.
    """
    options = {name: changes.pop(name, None) for name in ("statistics", "schedule", "resumed_at")}
    return open_stream(
        {**config.data, **changes},
        batch_size=batch_size or config.batch_size,
        seed=config.seed,
        train=train,
        process_index=0 if rows else jax.process_index(),
        process_count=1 if rows else jax.process_count(),
        rows=rows,
        **options,
    )


def used_schedule(config: ConfigDict, workdir: Path) -> dict[str, Any]:
    """Options of `stream_for` with which a run goes on: a changed mixture holds from its last step on."""
    found = resume.earlier_data(workdir)
    if found is None:
        return {}
    step, data = found
    # JSON has lost the order of the datasets, which says their index in a batch.
    names = data.get("datasets") or list(parse_mixture(config.data.mixture, config.data.dir))
    schedule = [
        (first, {name: weights[name] for name in (*names, *sorted(weights)) if name in weights})
        for first, weights in data["schedule"]
    ]
    return {"schedule": schedule, "resumed_at": step}


def trained_datasets(config: ConfigDict, folder: str | Path) -> dict[str, Any]:
    """Options of `stream_for` that give a run's datasets the index that it was trained with.

    A run whose mixture was changed knows more datasets than its configuration names, in another order.
    """
    found = resume.earlier_data(Path(folder))
    names = found[1].get("datasets") if found else None
    if not names or names == list(parse_mixture(config.data.mixture)):
        return {}
    return {"schedule": [(0, dict.fromkeys(names, 1.0))]}


def read_run(folder: str | Path, step: int | None = None, sharding: Sharding | None = None) -> Run:
    """Reads configuration, statistics and weights of a run folder, or of a release; no optimizer state.

    Args:
      folder: of the run.
      step: training step, the newest by default.
      sharding: of every weight; this process's first device by default.

    Raises:
      RunError: the folder holds no run.
      ReleaseError: see `checkpoint.release.read`.
      NoCheckpointError, CorruptCheckpointError: see `checkpoint.restore`.
    """
    folder = Path(folder)
    released, documents = release.found(folder), []
    for name in (CONFIG, STATISTICS):
        try:
            documents.append((folder / name).read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(
                f"{folder} is not a run folder: {name} cannot be read ({error.strerror})"
            ) from error
    config = config_lib.from_json(documents[0])
    if released and released.has(TOKENIZER):
        config.data.text_tokenizer = str(folder / TOKENIZER)
    step, weights = restore.read_weights(folder, step=step, average=True, sharding=sharding)
    return Run(
        config,
        task_for(config, folder),
        json.loads(documents[1]),
        step,
        weights["params"],
        weights["model_state"],
    )


def with_text_encoder(run: Run, folder: str | Path) -> Run:
    """A run that takes any text: one that was trained on stored vectors gets the encoder that made them.

    Args:
      run: of `read_run`; one without stored vectors stays as it is.
      folder: its run folder, which says what made them.

    Raises:
      RunError: the run folder does not say it, or weights or tokenizer here are others; names both digests.
      PretrainedFolderError: the encoder's weights are not here; has the command that gets them.
      TokenizerError: nor is its tokenizer.
    """
    if not run.config.data.get("text_features"):
        return run
    path = Path(folder) / TEXT_DOCUMENT
    try:
        made_by = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: does not say which vectors the run was trained on ({error})") from error
    config = config_lib.from_json(config_lib.to_json(run.config))
    config.data.text_features = ""
    name, dtype = made_by["encoder"], made_by["dtype"]
    place = pretrained_folder.default_folder(name)
    sharding = jax.tree.leaves(run.params)[0].sharding
    loaded = pretrained_folder.load(place, model=name, dtype=dtype, sharding=sharding)
    tokenizer = tokenizer_for(config.data.text_tokenizer)
    for what, where, found, expected in (
        (f"weights of {name}", place, loaded.about["digest"], made_by["digest"]),
        ("tokenizer", tokenizer.name, tokenizer.digest, made_by["tokenizer"]),
    ):
        if found != expected:
            raise RunError(
                f"{where}: {what} with digest {found[:16]}, expected {expected[:16]}, which made the vectors "
                f"that the run in {folder} was trained on"
            )
    params = {**run.params, PRETRAINED: {**run.params.get(PRETRAINED, {}), name: loaded.params}}
    return dataclasses.replace(run, config=config, task=task_for(config, Path(folder)), params=params)


def zero_batch(config: ConfigDict, task: Task | None = None) -> dict[str, np.ndarray]:
    """Zeros with the shapes that the model's parameters depend on, without opening any data.

    Those of a policy follow from its `task`.
    """
    if isinstance(task, PolicyTask):
        return policy_zeros(config, task)
    size = config.data.resolution
    depth = DEPTH_FIELDS + DEPTH_CONSTANTS if config.model.depth_input == "fuse" else ()
    sizes = {"B": 1, "T": len(config.data.offsets_s) + 1, "H": size, "W": size}
    return zeros(("rgb", "time_s", "frame_valid", *depth), sizes)
