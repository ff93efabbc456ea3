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
      latency: steps from a question to its chunk, during which earlier chunks are executed; only for the
        first one the robot waits.
      real_time: the policy is told what is executed meanwhile, and goes on from there (arXiv 2506.07339).
    """

    execute: int
    ensemble: bool = False
    latency: int = 0
    real_time: bool = False

    def check(self, horizon: int) -> None:
        """Raises RolloutError where it cannot be, with chunks of `horizon` actions."""
        if self.ensemble and self.real_time:
            raise RolloutError("real-time chunking goes on from one chunk, an ensemble is a mean of several")
        if not 0 <= self.latency <= self.execute:
            raise RolloutError(f"a latency of {self.latency} steps, expected 0 to execute = {self.execute}")
        if not 1 <= self.execute <= horizon - self.latency:
            late = f" + latency = {self.latency}" if self.latency else ""
            raise RolloutError(
                f"chunks of {horizon} actions, expected at least execute = {self.execute}{late}"
            )


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
        self._known = [(start, chunk) for start, chunk in self._known if start + len(chunk) >= self._step]
        return taken

    def rest(self) -> np.ndarray | None:
        """What the newest chunk says of the steps from now on, float32[n, M]; None before the first."""
        if not self._known:
            return None
        start, chunk_JM = self._known[-1]
        return chunk_JM[self._step - start :]

    def _action(self, step):
        said = [
            chunk[step - start]
            for start, chunk in self._known
            if step < start + len(chunk) and (start == 0 or step >= start + self._chunking.latency)
        ]
        if not self._chunking.ensemble:
            return said[-1]
        return np.average(said, axis=0, weights=np.exp(-DECAY * np.arange(len(said)))).astype(np.float32)
