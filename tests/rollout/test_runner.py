"""Many environments and one policy: every episode is run once, each gets its own answer."""

import os

import numpy as np
import pytest
from line_environment import Line

from farsighted_jax.rollout.actor import Actor, Senses
from farsighted_jax.rollout.chunking import Chunking
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.runner import Episode, run

ALONE = {"chunking": Chunking(1), "num_environments": 1}


def make_actor():
    return Actor(Line(), Senses(("primary",)), 30)


def walk(questions):
    """A chunk of four: the speed depends on where each one stands, so that a swapped answer shows."""
    assert len(questions) == 2, "the batch has one size"
    speed_B = [0.5 if question.observation["state"][0] % 2 == 0 else 0.25 for question in questions]
    return np.stack([np.tile([speed, 0, 0, 0], (4, 1)) for speed in speed_B]).astype(np.float32)


def steps_by_hand(start):
    x, steps = float(start), 0
    while x < 10:
        speed = 0.5 if x % 2 == 0 else 0.25
        for _ in range(2):
            x, steps = x + 2 * speed, steps + 1
            if x >= 10:
                break
    return steps


def test_every_episode_is_run_once_and_each_environment_gets_its_own_answer():
    episodes = [Episode("policy", "go", seed) for seed in range(5)]
    episodes += [Episode("expert", "go", 3), Episode("random", "stay", 1), Episode("policy", "stay", 2)]
    outcomes = list(run(make_actor, episodes, act=walk, chunking=Chunking(2), num_environments=2))
    assert sorted(map(str, (o.episode for o in outcomes))) == sorted(map(str, episodes))
    found = {(o.episode.controller, o.episode.task, o.episode.seed): (o.success, o.steps) for o in outcomes}
    for seed in range(5):
        assert found["policy", "go", seed] == (True, steps_by_hand(seed)), seed
    assert found["expert", "go", 3] == (True, 7)
    assert found["random", "stay", 1] == found["policy", "stay", 2] == (False, 30)


@pytest.mark.parametrize(("ensemble", "steps"), [(False, 6), (True, 8)])
def test_chunks_are_executed_as_asked_and_then_brought_to_the_environment(ensemble, steps):
    def hurrying(questions):
        """Speed x + 1 for the whole chunk: an ensemble with earlier, slower chunks hurries less."""
        return np.array([[[q.observation["state"][0] + 1, 0, 0, 0]] * 4 for q in questions], np.float32)

    def quartered(action_JM):
        assert action_JM.shape == (1, 4)
        return action_JM / 4

    chunking, episodes = Chunking(1, ensemble), [Episode("policy", "go", 0)]
    more = {"chunking": chunking, "num_environments": 1, "taken": quartered}
    (outcome,) = run(make_actor, episodes, act=hurrying, **more)
    assert outcome.success and outcome.steps == steps


def test_the_seed_of_a_question_is_a_function_of_episode_and_step_alone():
    def seeds(num_environments, tasks):
        asked = {}

        def act(questions):
            asked.update({(q.episode.task, q.episode.seed, q.step): q.seed for q in questions})
            return np.full((len(questions), 2, 4), 0.1, np.float32)

        episodes = [Episode("policy", task, seed) for task in tasks for seed in (3, 5)]
        more = {"chunking": Chunking(2), "num_environments": num_environments}
        list(run(make_actor, episodes, act=act, **more))
        return asked

    alone, together = seeds(1, ["go"]), seeds(2, ["stay", "go"])
    assert len(set(together.values())) == len(together) == 2 * 15 + len(alone)
    assert alone == {key: seed for key, seed in together.items() if key[0] == "go"}


def test_films_are_of_the_episodes_that_ask_for_one():
    episodes = [Episode("policy", "go", 6, film=True), Episode("policy", "go", 4)]

    def imagine(questions):
        assert len(questions) == 2, "the batch has one size"
        return np.stack([np.full((2, 2, 3), question.observation["state"][0]) for question in questions])

    more = {"chunking": Chunking(2), "num_environments": 2, "imagine": imagine}
    outcomes = list(run(make_actor, episodes, act=walk, **more))
    imagined = {o.episode.seed: o.imagined for o in outcomes}
    assert imagined[4] == {} and {k: v[0, 0, 0] for k, v in imagined[6].items()} == {0: 6, 2: 8}
    frames = {o.episode.seed: o.frames for o in outcomes}
    assert frames[4] is None and frames[6][:, 0, 0, 0].tolist() == [6, 7, 8, 9, 10]


def test_an_error_of_an_environment_is_told_with_the_episode():
    episodes = [Episode("expert", "fly", 6)]
    with pytest.raises(RolloutError, match="'fly'.*no task 'fly'"):
        list(run(make_actor, episodes, act=None, **ALONE))


def test_a_chunk_that_is_too_short_is_an_error():
    episodes = [Episode("policy", "go", seed) for seed in range(2)]
    with pytest.raises(RolloutError, match="chunks of 4 actions, expected at least execute = 5"):
        list(run(make_actor, episodes, act=walk, chunking=Chunking(5), num_environments=2))


def test_a_policy_is_needed_for_its_episodes():
    with pytest.raises(RolloutError, match="no policy"):
        list(run(make_actor, [Episode("policy", "go", 0)], act=None, **ALONE))


def fails():
    raise RolloutError("no renderer")


def dies():
    os._exit(3)


@pytest.mark.parametrize(("make", "told"), [(fails, "no renderer"), (dies, "process died in Episode")])
def test_a_process_that_does_not_come_up_is_told(make, told):
    with pytest.raises(RolloutError, match=told):
        list(run(make, [Episode("expert", "go", 0)], act=None, **ALONE))
