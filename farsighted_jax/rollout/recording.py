"""One recorded episode: the scripted expert acts, with or without noise, and everything seen is kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from farsighted_jax.rollout.environment import Environment, RolloutError

# Seeds of the three uses never meet: an episode's is first + index, plus a multiple of RETRY for another try.
FIRST_SEED = {"train": 0, "val": 1_000_000, "evaluate": 2_000_000}
RETRY = 100_000
MAX_TRIES = 10


@dataclasses.dataclass(frozen=True)
class Options:
    """How episodes are recorded.

    Attributes:
      noise: standard deviation of what is added to the expert's translation; actions lie in [-1, 1].
      num_steps: length of every episode; 0: until shortly after success.
      settle_steps: steps after success, without `num_steps`.
      keep_failures: whether an episode without success counts; else another seed is tried.
    """

    noise: float = 0.0
    num_steps: int = 0
    settle_steps: int = 5
    keep_failures: bool = False


def record(environment: Environment, task: str, split: str, index: int, options: Options) -> dict[str, Any]:
    """Records one episode; the same arguments give the same pixels.

    Args:
      environment: see there.
      task: one of its tasks.
      split: "train" or "val".
      index: of the episode within task and split, below `RETRY`.
      options: see there.

    Returns:
      "rgb/<camera>" uint8[T, H, W, 3], "depth/<camera>" float32[T, H, W], "state" float32[T, S], "action"
      float32[T, M] (step i's is taken after frame i), "seed", "success", "tries".

    Raises:
      RolloutError: the expert fails with every seed, or a length that the environment does not have.
    """
    if options.num_steps > environment.max_steps:
        most = environment.max_steps
        raise RolloutError(
            f"{environment.name}: episodes of {options.num_steps} steps, expected at most {most}"
        )
    for tries in range(1, MAX_TRIES + 1):
        seed = FIRST_SEED[split] + index + (tries - 1) * RETRY
        episode = _attempt(environment, task, seed, options)
        if episode["success"] or options.keep_failures:
            return {**episode, "tries": tries}
    raise RolloutError(f"task {task!r}: the expert failed with {MAX_TRIES} seeds, the last was {seed}")


def _attempt(environment, task, seed, options):
    rng = np.random.default_rng(seed)
    environment.reset(task, seed)
    groups = environment.spec.action.groups
    translation_M = np.array([group == "translation" for group in groups])
    views, actions, success, left = [], [], False, options.settle_steps
    for _ in range(options.num_steps or environment.max_steps):
        views.append(environment.view())
        noise_M = np.where(translation_M, options.noise * rng.standard_normal(len(groups)), 0)
        action_M = np.clip(environment.expert() + noise_M, -1, 1).astype(np.float32)
        actions.append(action_M)
        success = environment.step(action_M) or success
        left -= success
        if not options.num_steps and left < 0:
            break
    episode = {"seed": seed, "success": success, "action": np.stack(actions)}
    episode["state"] = np.stack([view.state for view in views])
    for camera in views[0].rgb:
        episode[f"rgb/{camera}"] = np.stack([view.rgb[camera] for view in views])
        episode[f"depth/{camera}"] = np.stack([view.depth[camera] for view in views])
    return episode


def write_episode(path: Path, episode: dict[str, Any], depth_unit_m: float) -> None:
    """Writes an episode as one file, whole or not at all; depth as uint16 units, 0 where not measured."""
    arrays = {}
    for key, value in episode.items():
        value = np.asarray(value)
        if key.startswith("depth/"):
            value = np.where(np.isfinite(value), np.rint(value / depth_unit_m), 0).astype(np.uint16)
        arrays[key] = value
    part = path.with_suffix(".part")
    with open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    part.replace(path)
