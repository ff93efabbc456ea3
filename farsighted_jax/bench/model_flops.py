"""The model's FLOPs of any task, for utilisation and plans: what it needs, whatever the program does."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from farsighted_jax.bench.flops import lam_flops
from farsighted_jax.bench.traced_flops import gradient_flops
from farsighted_jax.lam.task import LamTask
from farsighted_jax.policy.task import PolicyTask

# Parts of `lam_flops` that have no gradient of their own.
APART = {"frozen_encoder": "frozen", "lpips": "perceptual"}


def model_flops(config: ConfigDict, task: LamTask | PolicyTask, sample: Mapping[str, Any]) -> dict[str, int]:
    """FLOPs of a sample and training step: "trained", "frozen", "perceptual", as far as there are such.

    A latent action model that is trained wholly is counted from its configuration; a policy,
    or a model with `optimizer.freeze`, in what jax traces, without what is computed twice to
    save memory. That takes seconds; nothing is computed or compiled.

    Args:
      config: of the task.
      task: of the configuration.
      sample: batch of one sample, or its shapes, with every field that a training step reads.
    """
    freeze = tuple(config.optimizer.freeze)
    if config.task != "lam" or freeze:
        return gradient_flops(task.without_remat(), sample, freeze)
    flops: dict[str, int] = {}
    for part, count in lam_flops(config).items():
        name = APART.get(part, "trained")
        flops[name] = flops.get(name, 0) + count.step
    return flops
