"""One environment with an episode in progress: what runs in the process of a simulator."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from farsighted_jax.rollout.conventions import turned
from farsighted_jax.rollout.environment import Environment, RolloutError, View
from farsighted_jax.serving.history import FrameHistory

FLOORS = ("expert", "random")


@dataclasses.dataclass(frozen=True)
class Senses:
    """What a policy is shown, see `serving.observation`.

    Attributes:
      cameras: roles of its images.
      depth_cameras: roles of its depth maps.
      state: whether it reads the state.
      instruction: whether it is told the task.
      history_steps: see `serving.policy.Policy`.
      turned: roles whose dataset stores images and depth upside down.
    """

    cameras: tuple[str, ...]
    depth_cameras: tuple[str, ...] = ()
    state: bool = True
    instruction: bool = True
    history_steps: tuple[int, ...] = (0,)
    turned: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Progress:
    """An episode after some steps.

    Attributes:
      observation: of the present moment; None where the episode has ended.
      success: whether the task was done at any step.
      steps: taken so far.
      frames: uint8[n, H, W, 3] of the first camera since the last progress, of an episode that is filmed.
    """

    observation: dict[str, Any] | None
    success: bool
    steps: int
    frames: np.ndarray | None = None

    @property
    def ended(self) -> bool:
        """Whether there is nothing left to do."""
        return self.observation is None


class Actor:
    """Runs episodes of one environment, for a policy that is asked elsewhere or for a floor."""

    def __init__(self, environment: Environment, senses: Senses, max_steps: int):
        """Takes an environment that is this actor's alone.

        Args:
          environment: see there.
          senses: what is shown.
          max_steps: an episode ends after so many, at most as many as the environment's.

        Raises:
          RolloutError: more steps than the environment has, or a camera that it lacks.
        """
        if not 1 <= max_steps <= environment.max_steps:
            raise RolloutError(
                f"{environment.name}: episodes of {max_steps} steps, expected 1 to {environment.max_steps}"
            )
        roles = [camera.name for camera in environment.spec.cameras]
        if missing := [role for role in senses.cameras if role not in roles]:
            raise RolloutError(
                f"{environment.name} has no camera {missing}, which the policy sees, only {roles}"
            )
        self._environment, self._senses, self._max_steps = environment, senses, max_steps
        self._history = FrameHistory(senses.history_steps)

    def begin(self, task: str, seed: int, film: bool = False) -> Progress:
        """Starts an episode; one that is filmed is looked at in every step."""
        self._environment.reset(task, seed)
        self._history.reset()
        self._film, self._looks_always = film, film or len(self._senses.history_steps) > 1
        self._instruction, self._steps, self._success = self._environment.instructions(task)[0], 0, False
        view = self._environment.view()
        return self._progress(self._seen(view), [view])

    def act(self, action_JM: np.ndarray) -> Progress:
        """Takes actions one after the other, until the task is done or the episode is over."""
        views, observation = [], None
        for index, action_M in enumerate(action_JM, start=1):
            self._success = self._environment.step(action_M)
            self._steps += 1
            over = self._success or self._steps >= self._max_steps
            last = over or index == len(action_JM)
            if self._looks_always or (last and not over):
                view = self._environment.view()
                views.append(view)
                # Every frame goes through the history, also those at which nobody is asked.
                observation = self._seen(view)
            if over:
                return self._progress(None, views)
        return self._progress(observation, views)

    def alone(self, task: str, seed: int, floor: str) -> Progress:
        """A whole episode of the scripted expert, or of random actions; nothing is rendered."""
        environment, rng = self._environment, np.random.default_rng(seed)
        environment.reset(task, seed)
        width = environment.spec.action.width
        for steps in range(1, self._max_steps + 1):
            action_M = environment.expert() if floor == "expert" else rng.uniform(-1, 1, width)
            if environment.step(action_M):
                return Progress(None, True, steps)
        return Progress(None, False, self._max_steps)

    def _progress(self, observation, views):
        frames = None
        if self._film and views:
            frames = np.stack([view.rgb[self._senses.cameras[0]] for view in views])
        return Progress(observation, self._success, self._steps, frames)

    def _seen(self, view: View) -> dict[str, Any]:
        senses, spec = self._senses, self._environment.spec
        observation: dict[str, Any] = {
            "rgb": {role: self._as_stored(view.rgb, role) for role in senses.cameras}
        }
        if senses.depth_cameras:
            observation["depth"] = {
                role: _in_units(self._as_stored(view.depth, role), spec.camera(role).depth_unit_m)
                for role in senses.depth_cameras
            }
        if senses.state:
            observation["state"] = view.state
        if senses.instruction:
            observation["instruction"] = self._instruction
        return self._history.add(observation)

    def _as_stored(self, pictures, role):
        return turned(pictures[role]) if role in self._senses.turned else pictures[role]


def _in_units(depth_HW, unit_m):
    """Depth as a recording has it: 0 where nothing was measured."""
    return np.where(np.isfinite(depth_HW), np.rint(depth_HW / unit_m), 0).astype(np.uint16)
