"""Closed loop: a policy acts in many environments at once, each in a process of its own.

All environments that wait are asked in one batch, whose size never changes, so that the policy is compiled
once. Each executes what its chunks say, see `chunking`, and waits again.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from farsighted_jax.rollout.actor import Actor, Progress
from farsighted_jax.rollout.chunking import Chunking, Chunks
from farsighted_jax.rollout.environment import RolloutError


@dataclasses.dataclass(frozen=True)
class Episode:
    """One episode to run: `controller` is "policy" or one of `actor.FLOORS`."""

    controller: str
    task: str
    seed: int
    film: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """An episode that was run.

    Attributes:
      episode: which one.
      success: whether the task was done.
      steps: taken.
      frames: uint8[n, H, W, 3] of one that is filmed, else None.
      imagined: of one that is filmed, what was imagined at its questions, by step.
    """

    episode: Episode
    success: bool
    steps: int
    frames: np.ndarray | None = None
    imagined: Mapping[int, np.ndarray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Question:
    """What a policy is asked: the observation after `step` steps of an episode; see `Chunks.rest`."""

    episode: Episode
    step: int
    observation: dict[str, Any]
    rest: np.ndarray | None = None

    @property
    def seed(self) -> int:
        """Of the policy's noise, uint32: by task, seed and step of the episode, whatever else is running."""
        words = [zlib.crc32(self.episode.task.encode()), self.episode.seed, self.step]
        return int(np.random.SeedSequence(words).generate_state(1)[0])


# Questions of a batch -> float32[B, J, M], and float32[B, H, W, 3].
Act = Callable[[Sequence[Question]], np.ndarray]
Imagine = Callable[[Sequence[Question]], np.ndarray]


def run(
    make_actor: Callable[[], Actor],
    episodes: Sequence[Episode],
    *,
    act: Act | None,
    chunking: Chunking,
    num_environments: int,
    taken: Callable[[np.ndarray], np.ndarray] = np.asarray,
    imagine: Imagine | None = None,
) -> Iterator[Outcome]:
    """Runs episodes, several at a time, in any order.

    Args:
      make_actor: makes the actor of a process, and is called there: a function, or a partial of one.
      episodes: what to run.
      act: the policy; None where no episode asks for it.
      chunking: how its chunks are executed.
      num_environments: processes.
      taken: makes actions of the environment of those of the policy.
      imagine: what the policy foresees, asked where an episode is filmed; None for one that foresees nothing.

    Yields:
      Each episode's outcome when it has ended.

    Raises:
      RolloutError: a process that failed, with its own message; a chunk that is too short.
    """
    if act is None and any(episode.controller == "policy" for episode in episodes):
        raise RolloutError("episodes of a policy, and no policy")
    waiting = list(reversed(episodes))
    if not waiting:
        return
    processes = [_Process(make_actor, chunking) for _ in range(min(num_environments, len(episodes)))]
    try:
        for process in processes:
            process.start(waiting.pop())
        while any(process.episode for process in processes):
            asked = []
            for process in processes:
                # Episodes of floors end without a question; the next one may be of the policy.
                while process.episode and (outcome := process.outcome()):
                    yield outcome
                    process.start(waiting.pop() if waiting else None)
                if process.episode:
                    asked.append(process)
            if asked:
                _answer(asked, act, taken, imagine, len(processes))
    finally:
        for process in processes:
            process.close()


def _answer(asked, act, taken, imagine, batch_size):
    """Asks the policy for all that wait; rows that nobody waits for repeat the first."""
    rows = [process.question for process in asked]
    rows += rows[:1] * (batch_size - len(rows))
    if imagine and any(process.episode.film for process in asked):
        for process, picture_HWC in zip(asked, imagine(rows), strict=False):
            if process.episode.film:
                process.imagined[process.question.step] = picture_HWC
    action_BJM = act(rows)
    for process, action_JM in zip(asked, action_BJM, strict=False):
        process.send("act", taken(process.chunks.add(action_JM)))


class _Process:
    """One environment elsewhere; it has one episode and one message in flight at a time."""

    def __init__(self, make_actor, chunking):
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        self._process = spawn.Process(target=_serve, args=(theirs, make_actor), daemon=True)
        self._process.start()
        theirs.close()
        self._chunking = chunking
        self.episode: Episode | None = None
        self.question: Question | None = None

    def start(self, episode: Episode | None) -> None:
        self.episode, self.chunks, self._frames = episode, Chunks(self._chunking), []
        self.imagined: dict[int, np.ndarray] = {}
        if episode is None:
            return
        if episode.controller == "policy":
            self.send("begin", episode.task, episode.seed, episode.film)
        else:
            self.send("alone", episode.task, episode.seed, episode.controller)

    def send(self, *message) -> None:
        try:
            self._pipe.send(message)
        except OSError:
            # Its process has ended; what it said last, if anything, is read next.
            pass

    def outcome(self) -> Outcome | None:
        """Waits for the process; None where it waits for the policy."""
        try:
            progress = self._pipe.recv()
        except (EOFError, OSError):
            raise RolloutError(f"the environment's process died in {self.episode}") from None
        if not isinstance(progress, Progress):
            raise RolloutError(f"{self.episode}: {progress}")
        if progress.frames is not None:
            self._frames.append(progress.frames)
        if not progress.ended:
            rest = self.chunks.rest()
            self.question = Question(self.episode, progress.steps, progress.observation, rest)
            return None
        frames = np.concatenate(self._frames) if self._frames else None
        return Outcome(self.episode, progress.success, progress.steps, frames, self.imagined)

    def close(self) -> None:
        self._pipe.close()
        self._process.join(timeout=5)
        if self._process.is_alive():
            self._process.kill()


def _serve(pipe, make_actor):
    try:
        actor = make_actor()
        while True:
            name, *arguments = pipe.recv()
            pipe.send(getattr(actor, name)(*arguments))
    except EOFError:
        return
    except RolloutError as error:
        pipe.send(str(error))
    except Exception:
        pipe.send(traceback.format_exc())
