"""CALVIN's chains on a row of switches: what is asked when, when a chain ends, and the figures of it."""

import numpy as np
import pytest

from farsighted_jax.rollout import calvin_score
from farsighted_jax.rollout.calvin_score import Chain, completed, score
from farsighted_jax.rollout.environment import RolloutError

SUBTASKS = ("a", "b", "c", "d", "e")
INSTRUCTIONS = {name: f"turn {name}" for name in SUBTASKS}


class Switches:
    """One switch a subtask; every `slow`-th step action i turns switch i, on or off."""

    def __init__(self, slow=1):
        self.slow, self.steps = slow, 0

    def reset(self, scene):
        self.on, self.asked = dict.fromkeys(SUBTASKS, bool(scene)), 0
        return "begin"

    def step(self, action):
        self.steps += 1
        self.asked += 1
        if action >= 0 and self.asked % self.slow == 0:
            name = SUBTASKS[int(action)]
            self.on[name] = not self.on[name]
        return f"step {self.steps}"

    def facts(self):
        return dict(self.on)

    def done(self, subtask, before, now):
        return now[subtask] != before[subtask]


class Obedient:
    """Turns what it is told to, but for what it cannot."""

    def __init__(self, unable=()):
        self.unable, self.begun, self.seen = unable, 0, []

    def reset(self):
        self.begun += 1

    def act(self, observation, instruction):
        self.seen.append((observation, instruction))
        name = instruction.removeprefix("turn ")
        return np.float32(-1 if name in self.unable else SUBTASKS.index(name))


def run(chain, slow=1, unable=(), **options):
    arena, agent = Switches(slow), Obedient(unable)
    return completed(arena, agent, Chain(0, chain), INSTRUCTIONS, **options), arena, agent


def test_a_whole_chain_is_five_and_success_is_seen_at_once():
    count, arena, agent = run(SUBTASKS)
    assert count == 5 and arena.steps == 5 and agent.begun == 5
    # Looked at after every step: the second try of `a` would have undone it.
    assert agent.seen[:2] == [("begin", "turn a"), ("step 1", "turn b")]


def test_a_chain_ends_with_the_first_subtask_that_is_not_done_in_360_steps():
    count, arena, agent = run(SUBTASKS, unable=("c",))
    assert count == 2 and agent.begun == 3 and arena.steps == 2 + 360
    assert "turn d" not in {instruction for _, instruction in agent.seen}


def test_the_last_step_counts_and_the_next_does_not():
    assert run(("a",), slow=360)[0] == 1
    assert run(("a",), slow=361)[0] == 0
    assert run(("a",), slow=4, max_steps=3)[0] == 0


def test_facts_are_those_at_the_begin_of_the_subtask():
    # `a` twice: on, then off again. Compared with the chain's begin the second would be undone.
    assert run(("a", "a", "b"))[0] == 3


def test_a_subtask_without_an_instruction_is_named_before_the_chain_begins():
    arena = Switches()
    with pytest.raises(RolloutError, match=r"no instruction for subtask\(s\) \['z'\]"):
        completed(arena, Obedient(), Chain(0, ("a", "z")), INSTRUCTIONS)
    assert arena.steps == 0


def test_the_figures():
    chains = [Chain(0, SUBTASKS)] * 4
    found = score(chains, [5, 2, 0, 1])
    assert [found["in_a_row"][k]["success"] for k in range(1, 6)] == [0.75, 0.5, 0.25, 0.25, 0.25]
    assert found["average_length"] == 2 == sum(row["success"] for row in found["in_a_row"].values())
    low, high = found["in_a_row"][1]["interval"]
    assert 0 < low < 0.75 < high < 1
    assert found["subtasks"]["a"] == {"done": 3, "tried": 4}
    assert found["subtasks"]["b"] == {"done": 2, "tried": 3}
    assert found["subtasks"]["c"] == {"done": 1, "tried": 2}
    assert found["chains"] == 4 and not found["comparable"]


def test_a_thousand_chains_of_five_are_what_tables_report():
    chains = [Chain(number % 2, SUBTASKS) for number in range(calvin_score.NUM_CHAINS)]
    arena, rng = Switches(), np.random.default_rng(0)
    counts = [
        completed(arena, Obedient(rng.permutation(list(SUBTASKS))[:1]), chain, INSTRUCTIONS, max_steps=3)
        for chain in chains
    ]
    found = score(chains, counts)
    # One of five at random cannot be done: 0 to 4 are done in a row, each as often.
    assert found["comparable"] and abs(found["average_length"] - 2) < 0.15
    assert found["in_a_row"][5]["success"] == 0


@pytest.mark.parametrize(
    ("chains", "counts", "told"),
    [
        ([], [], "0 chains"),
        ([Chain(0, SUBTASKS)], [1, 2], "1 chains of lengths .* and 2 counts"),
        ([Chain(0, SUBTASKS), Chain(0, ("a",))], [1, 1], r"lengths \[1, 5\]"),
        ([Chain(0, SUBTASKS)], [6], "a count of 6 in a chain of 5"),
        ([Chain(0, SUBTASKS)], [0.5], "a count of 0.5"),
    ],
)
def test_counts_that_are_not_of_these_chains_are_refused(chains, counts, told):
    with pytest.raises(RolloutError, match=told):
        score(chains, counts)
