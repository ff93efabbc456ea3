"""What a simulator or a robot is to the rest: one small protocol.

An environment lives in one process, is stepped by one caller and renders only when it is looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from farsighted_jax.core.spec import DatasetSpec


class RolloutError(ValueError):
    """An environment, a task or a recording that cannot be used; the message names it."""


@dataclasses.dataclass(frozen=True)
class View:
    """What the sensors show at one moment.

    Attributes:
      rgb: camera -> uint8[H, W, 3], upright.
      depth: camera -> float32[H, W] metres, inf where nothing was measured.
      state: float32[S] proprioception.
    """

    rgb: Mapping[str, np.ndarray]
    depth: Mapping[str, np.ndarray]
    state: np.ndarray


class Environment(Protocol):
    """A set of tasks that can be acted on.

    Attributes:
      name: of the environment.
      tasks: names of its tasks.
      spec: what cameras, actions and state of its recordings mean.
      settings: versions and render settings that pixels depend on, as JSON.
      max_steps: an episode has no more.
    """

    name: str
    tasks: tuple[str, ...]
    spec: DatasetSpec
    settings: Mapping[str, Any]
    max_steps: int

    def instructions(self, task: str) -> tuple[str, ...]:
        """Ways to say the task, the usual one first."""

    def reset(self, task: str, seed: int) -> None:
        """Starts an episode; the same task and seed give the same pixels.

        Raises:
          RolloutError: an unknown task.
        """

    def step(self, action_M: np.ndarray) -> bool:
        """Acts; tells whether the task is done at this moment."""

    def view(self) -> View:
        """Renders the present moment."""

    def expert(self) -> np.ndarray:
        """What the scripted expert would do now, float32[M]; it may see what no sensor shows."""

    def close(self) -> None:
        """Gives up everything that rendering holds."""
