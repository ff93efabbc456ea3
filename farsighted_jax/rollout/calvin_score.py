"""CALVIN's score: how many subtasks of a chain a policy does in a row (Mees et al., 2022).

1000 chains of 5 subtasks; each has 360 steps at 30 Hz and is looked at after every one. The first that is not
done ends the chain. Nothing here knows the simulator: it is an `Arena`.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.success import wilson_interval

NUM_CHAINS, CHAIN_LENGTH, MAX_STEPS, HZ = 1000, 5, 360, 30


class Chain(NamedTuple):
    """A scene to begin with, and names of subtasks; `calvin_agent`'s `get_sequences` makes them."""

    scene: Any
    subtasks: tuple[str, ...]


class Arena(Protocol):
    """The simulator."""

    def reset(self, scene: Any) -> Any:
        """Puts robot and objects in their places; returns what is observed."""

    def step(self, action_M: np.ndarray) -> Any:
        """Acts; returns what is observed then."""

    def facts(self) -> Any:
        """What is true of the scene at this moment; no policy sees it."""

    def done(self, subtask: str, before: Any, now: Any) -> bool:
        """Whether the facts differ as the subtask demands; `before` are those at its begin."""


class Agent(Protocol):
    """The policy, with what it remembers."""

    def reset(self) -> None:
        """Forgets: a subtask begins."""

    def act(self, observation: Any, instruction: str) -> np.ndarray:
        """The action of this step, float[M]."""


def completed(
    arena: Arena,
    agent: Agent,
    chain: Chain,
    instructions: Mapping[str, str],
    *,
    max_steps: int = MAX_STEPS,
) -> int:
    """Runs one chain; returns how many of its subtasks were done in a row.

    Args:
      arena: see there.
      agent: see there; it is told to forget before every subtask.
      chain: see there.
      instructions: subtask -> what the policy is told.
      max_steps: of each subtask.

    Raises:
      RolloutError: a subtask without an instruction.
    """
    if missing := [subtask for subtask in chain.subtasks if subtask not in instructions]:
        raise RolloutError(f"no instruction for subtask(s) {missing}, only for {sorted(instructions)}")
    observation = arena.reset(chain.scene)
    for number, subtask in enumerate(chain.subtasks):
        before = arena.facts()
        agent.reset()
        for _ in range(max_steps):
            observation = arena.step(agent.act(observation, instructions[subtask]))
            if arena.done(subtask, before, arena.facts()):
                break
        else:
            return number
    return len(chain.subtasks)


def score(chains: Sequence[Chain], counts: Iterable[int]) -> dict[str, Any]:
    """The figures that are reported.

    Args:
      chains: all of one length.
      counts: of each, see `completed`.

    Returns:
      "chains"; "comparable", whether they are as many and as long as in published tables; "average_length",
      the mean of the counts; "in_a_row", k -> "success" (the share of chains with at least k subtasks done)
      and its 95 % Wilson "interval"; "subtasks", name -> "done" and "tried".

    Raises:
      RolloutError: no chain, chains of several lengths, or counts that are not theirs.
    """
    counts = list(counts)
    lengths = {len(chain.subtasks) for chain in chains}
    if len(lengths) != 1 or len(counts) != len(chains):
        raise RolloutError(
            f"{len(chains)} chains of lengths {sorted(lengths)} and {len(counts)} counts, expected chains of "
            "one length, and a count of each"
        )
    (length,) = lengths
    if wrong := [count for count in counts if count not in range(length + 1)]:
        raise RolloutError(f"a count of {wrong[0]} in a chain of {length} subtasks")
    in_a_row = {}
    for k in range(1, length + 1):
        reached = sum(count >= k for count in counts)
        interval = list(wilson_interval(reached, len(counts)))
        in_a_row[k] = {"success": reached / len(counts), "interval": interval}
    subtasks: dict[str, dict[str, int]] = {}
    for chain, count in zip(chains, counts, strict=True):
        for number, subtask in enumerate(chain.subtasks[: count + 1]):
            entry = subtasks.setdefault(subtask, {"done": 0, "tried": 0})
            entry["tried"] += 1
            entry["done"] += number < count
    return {
        "chains": len(counts),
        "comparable": (len(counts), length) == (NUM_CHAINS, CHAIN_LENGTH),
        "average_length": statistics.fmean(counts),
        "in_a_row": in_a_row,
        "subtasks": subtasks,
    }
