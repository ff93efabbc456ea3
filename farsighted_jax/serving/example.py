"""The example of a release: recorded observations, and what the policy made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.split import EpisodeSplit
from farsighted_jax.checkpoint.release import Release, ReleaseError
from farsighted_jax.serving.observation import RawObservation

INPUT, ACTION, CODE, RGB = "input/", "output/action", "output/code", "output/rgb"
IMAGES = ("rgb", "depth")
SEED = 0

# Of a normalised action or a colour, by the dtype of the computation, and of codes the share that may differ.
TOLERANCES = {"float32": 1e-3, "bfloat16": 5e-2}
CODE_TOLERANCE = 0.1


def recorded_observations(split: EpisodeSplit, policy: Any, count: int) -> list[RawObservation]:
    """What a policy would have observed at the last steps of an episode.

    Args:
      split: of the dataset that the policy acts for; its first episode with any step is taken.
      policy: a `serving.policy.Policy`, whose cameras, keys and history they have.
      count: at most so many, all with as many frames.
    """
    episode = next(episode for episode in split.episodes() if episode.num_steps)
    last = episode.num_steps - 1
    frames = {
        step: [step - back for back in policy.history_steps if back <= step] for step in range(last + 1)
    }
    alike = [step for step in frames if len(frames[step]) == len(frames[last])]
    return [_recorded(episode, step, frames[step], policy) for step in alike[-count:]]


def _recorded(episode, step, frames, policy):
    observation: dict[str, Any] = {
        "rgb": {role: np.stack([episode.rgb(frame, role) for frame in frames]) for role in policy.cameras}
    }
    if "depth" in policy.keys:
        observation["depth"] = {
            role: np.stack([episode.depth(frame, role) for frame in frames]) for role in policy.depth_cameras
        }
    if "state" in policy.keys:
        observation["state"] = episode.states[step]
    if "instruction" in policy.keys:
        observation["instruction"] = episode.instruction.decode("utf-8", errors="replace")
    return observation


def example_of(policy: Any, observations: Sequence[RawObservation]) -> dict[str, np.ndarray]:
    """The arrays of an example: observations with as many frames each, and the policy's outputs."""
    arrays = {f"{INPUT}embodiment": np.array(policy.spec.name), f"{INPUT}seed": np.array(SEED)}
    for key, value in observations[0].items():
        for role in value if key in IMAGES else [""]:
            column = [o[key][role] if key in IMAGES else o[key] for o in observations]
            arrays[f"{INPUT}{key}/{role}".rstrip("/")] = np.stack(column)
    return arrays | _outputs(policy, observations, SEED)


def check_example(found: Release, policy_for: Callable[[str], Any], dtype: str) -> None:
    """Computes the example of a release again.

    On the platform that made it the outputs are the same bit for bit. Another one
    rounds otherwise: actions and colours may differ by `TOLERANCES`, codes in the
    few places where two were as good.

    Args:
      found: the release.
      policy_for: embodiment -> policy.
      dtype: key of `TOLERANCES`.

    Raises:
      ReleaseError: an output differs; names it and by how much.
    """
    arrays = found.example()
    policy = policy_for(str(arrays[f"{INPUT}embodiment"]))
    outputs = _outputs(policy, observations_of(arrays), int(arrays[f"{INPUT}seed"]))
    for name, array in outputs.items():
        expected = arrays[name]
        if name == CODE:
            wrong, limit = np.mean(array != expected), CODE_TOLERANCE
        elif name == RGB:
            wrong, limit = np.max(np.abs(array - expected)), TOLERANCES[dtype]
        else:
            ones = np.ones(policy.spec.action.width)
            unit_M = np.abs(policy.in_robot_units(ones) - policy.in_robot_units(0 * ones))
            wrong, limit = np.max(np.abs(array - expected) / unit_M), TOLERANCES[dtype]
        if not wrong <= limit:
            raise ReleaseError(
                f"{found.folder}: the example's {name.partition('/')[2]} comes out otherwise: off by "
                f"{wrong:.3g}, expected at most {limit:g}"
            )


def _outputs(policy, observations, seed) -> Mapping[str, np.ndarray]:
    if policy.horizon:
        return {ACTION: policy(observations, seed=seed)}
    if "plan" in policy.groups:
        return {CODE: policy.plan(observations)}
    return {RGB: policy.imagined(observations)}


def observations_of(arrays: Mapping[str, np.ndarray]) -> list[RawObservation]:
    """The observations of an example's arrays."""
    observations: list[dict] = []
    for name, rows in arrays.items():
        key, _, role = name.removeprefix(INPUT).partition("/")
        if not name.startswith(INPUT) or not rows.ndim:
            continue
        observations = observations or [{} for _ in rows]
        for observation, row in zip(observations, rows, strict=True):
            if key in IMAGES:
                observation.setdefault(key, {})[role] = row
            else:
                observation[key] = str(row) if key == "instruction" else row
    return observations
