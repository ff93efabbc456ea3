"""A run as every command sees it: its task, its data, its mesh, and a run folder read back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from data_pipelines.stream import Stream, open_stream
from farsighted_jax.checkpoint import restore
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.task import Task
from farsighted_jax.lam.task import LamTask, lam_task
from farsighted_jax.train.resume import CONFIG, STATISTICS

TASKS = {"lam": lam_task}


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
      model_state: codebook.
    """

    config: ConfigDict
    task: LamTask
    statistics: Mapping[str, Any]
    step: int
    params: Any
    model_state: Any


def task_for(config: ConfigDict) -> Task:
    """The task a configuration names; ConfigError for one that is unknown, inconsistent or lacks a key."""
    config_lib.check_choice("task", config.task, TASKS)
    try:
        return TASKS[config.task](config)
    except KeyError as error:
        raise config_lib.ConfigError(
            f"the configuration lacks the key {error.args[0]}; it was written by hand or by another version"
        ) from error


def stream_for(
    config: ConfigDict, *, batch_size: int | None = None, train: bool = True, **changes: Any
) -> Stream:
    """Opens the configuration's data; `changes` replace keys of `config.data`, or are `statistics`."""
    statistics = changes.pop("statistics", None)
    return open_stream(
        {**config.data, **changes},
        batch_size=batch_size or config.batch_size,
        seed=config.seed,
        train=train,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
        statistics=statistics,
    )


def read_run(folder: str | Path, step: int | None = None) -> Run:
    """Reads configuration, statistics and weights of a run folder; optimizer state is left alone.

    Raises:
      RunError: the folder holds no run.
      NoCheckpointError, CorruptCheckpointError: see `checkpoint.restore`.
    """
    folder = Path(folder)
    documents = []
    for name in (CONFIG, STATISTICS):
        try:
            documents.append((folder / name).read_text(encoding="utf-8"))
        except OSError as error:
            raise RunError(
                f"{folder} is not a run folder: {name} cannot be read ({error.strerror})"
            ) from error
    config = config_lib.from_json(documents[0])
    step, weights = restore.read_weights(folder, step=step, average=True)
    return Run(
        config, task_for(config), json.loads(documents[1]), step, weights["params"], weights["model_state"]
    )


def zero_batch(config: ConfigDict) -> dict[str, np.ndarray]:
    """Zeros with the shapes that the model's parameters depend on, without opening any data."""
    T, size = len(config.data.offsets_s) + 1, config.data.resolution
    depth = {
        "depth": np.zeros((1, T, size, size, 1), np.float32),
        "depth_valid": np.zeros((1, T, size, size, 1), bool),
        "depth_center": np.zeros(1, np.float32),
        "depth_scale": np.ones(1, np.float32),
    }
    return (depth if config.model.depth_input == "fuse" else {}) | {
        "rgb": np.zeros((1, T, size, size, 3), np.uint8),
        "time_s": np.zeros((1, T), np.float32),
        "frame_valid": np.ones((1, T), bool),
    }
