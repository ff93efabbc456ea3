"""The task of a configuration before there is any data or trained model: for benches and plans."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.oxe.bridge import BRIDGE_DATASET
from farsighted_jax.bench.step import random_batch
from farsighted_jax.cli.policy_run import policy_zeros
from farsighted_jax.cli.run import TASKS
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.batch import DEPTH_CONSTANTS, zeros
from farsighted_jax.core.task import Task
from farsighted_jax.lam.frozen import frozen_lam
from farsighted_jax.lam.task import lam_task
from farsighted_jax.policy.task import PolicyTask, policy_task
from farsighted_jax.train.resume import CONFIG

# Beside a policy's configuration; stands in for the latent action model that it does not name.
LAM_CONFIG = "lam_pretrain.py"


def untrained_task(config, reference: str) -> Task:
    """The task, with no weights and no data.

    A policy is given a robot arm with a gripper and a state, and the latent action
    model whose run folder `lam` names, or one of its variant that nobody has trained.

    Args:
      config: of the task.
      reference: FILE[:ARG] it was read from.

    Raises:
      ConfigError: see `lam.task.lam_task`, `policy.task.policy_task`.
    """
    config_lib.check_choice("task", config.task, TASKS)
    if config.task == "lam":
        return lam_task(config)
    return policy_task(
        config, frozen_lam(_lam_config(config, reference)), {BRIDGE_DATASET.name: BRIDGE_DATASET.spec}
    )


def sample_batch(config, task: Task) -> dict[str, np.ndarray]:
    """A batch of one sample with every field that a training step might read, depth included."""
    if not isinstance(task, PolicyTask):
        return random_batch(config, 1)
    data = config.data
    frames = len(data.offsets_s) + 1
    sizes = {"B": 1, "T": frames, "H": data.resolution, "W": data.resolution}
    names: list[Any] = ["dataset", "episode", "step"]
    if data.depth != "off":
        names += ["depth", "depth_valid", *DEPTH_CONSTANTS]
    if data.plain_clip and data.augment:
        names += ["plain_rgb"] + (["plain_depth", "plain_depth_valid"] if data.depth != "off" else [])
    return zeros(names, sizes) | policy_zeros(config, task)


def _lam_config(config, reference):
    path = Path(config.lam) / CONFIG if config.lam else None
    if path is None:
        beside = Path(reference.partition(":")[0]).with_name(LAM_CONFIG)
        return config_lib.load(f"{beside}:{config.model.variant}")
    try:
        return config_lib.from_json(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise config_lib.ConfigError(f"configuration key 'lam': {path} cannot be read ({error})") from error
