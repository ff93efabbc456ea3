"""Chunks of actions over time: what is done at a step of which several chunks speak. Pure numpy."""

from __future__ import annotations

import dataclasses

import numpy as np

from farsighted_jax.rollout.environment import RolloutError

# Chunk i of those that speak of a step, the oldest first, weighs exp(-DECAY * i) (ACT, arXiv 2304.13705).
DECAY = 0.01


@dataclasses.dataclass(frozen=True)
class Chunking:
    """How chunks are executed.

    Attributes:
      execute: actions taken before the policy is asked again.
      ensemble: take the weighted mean of all chunks that speak of a step, not the newest one alone.
    """

    execute: int
    ensemble: bool = False

    def check(self, horizon: int) -> None:
        """Raises RolloutError for chunks of `horizon` actions that are too short for it."""
        if not 1 <= self.execute <= horizon:
            raise RolloutError(f"chunks of {horizon} actions, expected at least execute = {self.execute}")


class Chunks:
    """The chunks of one episode; each begins at the step at which it was asked for."""

    def __init__(self, chunking: Chunking):
        """An episode begins."""
        self._chunking, self._step = chunking, 0
        self._known: list[tuple[int, np.ndarray]] = []

    def add(self, action_JM: np.ndarray) -> np.ndarray:
        """Takes the chunk that was asked for now, and goes on to the next question.

        Args:
          action_JM: float[J, M], its first action is for now.

        Returns:
          float32[execute, M] what to do until the policy is asked again.

        Raises:
          RolloutError: a chunk that is too short.
        """
        self._chunking.check(len(action_JM))
        begin, self._step = self._step, self._step + self._chunking.execute
        self._known.append((begin, np.asarray(action_JM, np.float32)))
        taken = np.stack([self._action(step) for step in range(begin, self._step)])
        self._known = [(start, chunk) for start, chunk in self._known if start + len(chunk) > self._step]
        return taken

    def _action(self, step):
        said = [chunk[step - start] for start, chunk in self._known if step < start + len(chunk)]
        if not self._chunking.ensemble:
            return said[-1]
        return np.average(said, axis=0, weights=np.exp(-DECAY * np.arange(len(said)))).astype(np.float32)
