"""Fetch through the protocol of environments; the simulator runs in a process of its own."""

import concurrent.futures
import ctypes.util
import importlib.util
import multiprocessing

import numpy as np
import pytest

from farsighted_jax.rollout import fetch
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.recording import Options, record
from farsighted_jax.rollout.workers import make_environment

SETTINGS = {"resolution": 24, "cameras": ("primary", "secondary")}
simulator = pytest.mark.skipif(
    importlib.util.find_spec("gymnasium_robotics") is None or ctypes.util.find_library("OSMesa") is None,
    reason="needs the extra 'sim' and Debian's libosmesa6",
)


def test_every_task_has_sentences_of_its_own():
    sentences = [sentence for said in fetch.INSTRUCTIONS.values() for sentence in said]
    assert len(set(sentences)) == len(sentences) == 9


def alone(seed, looks):
    """In a process of its own: the states of an episode, of which one may look at every step."""
    environment = make_environment("fetch", SETTINGS)
    found = {}
    for task in ("push", "reach", "pick-and-place", "push"):
        environment.reset(task, seed)
        states = []
        for _ in range(6):
            states.append(environment.view() if looks else None)
            environment.step(environment.expert())
        found[task] = (states, environment.view())
    environment.close()
    return found


def episodes():
    """In a process of its own: expert's episodes, errors, and what is known of the environment."""
    environment = make_environment("fetch", SETTINGS)
    with pytest.raises(RolloutError, match="Fetch has no task 'slide'; it has reach, push, pick-and-place"):
        environment.reset("slide", 0)
    with pytest.raises(RolloutError, match="Fetch has no camera .'ceiling'"):
        make_environment("fetch", {"cameras": ("ceiling",)})
    tasks = {
        task: [record(environment, task, "train", index, Options()) for index in range(3)]
        for task in environment.tasks
    }
    return environment.spec, environment.settings, tasks


@pytest.fixture(scope="module")
def pool():
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        yield pool


@simulator
def test_the_expert_solves_every_task_at_the_first_try_and_pictures_show_it(pool):
    spec, settings, tasks = pool.submit(episodes).result()
    assert settings["versions"]["gymnasium-robotics"] == "1.4.2" and settings["resolution"] == 24
    assert set(tasks) == {"reach", "push", "pick-and-place"}
    for task, recorded in tasks.items():
        for episode in recorded:
            assert episode["success"] and episode["tries"] == 1, task
            assert episode["action"].shape[1] == spec.action.width == 4
            assert np.abs(episode["action"]).max() <= 1
            # The hand moves up to 5 cm for an action of 1, in the direction of it.
            moved, asked = np.diff(episode["state"][:, :3], axis=0), episode["action"][:-1, :3]
            assert (moved * asked).sum() > 0 and np.abs(moved).max() < 0.08
        first, last = recorded[0]["rgb/primary"][[0, -1]].astype(int)
        assert first.std() > 10 and np.abs(first - last).max() > 30
        depth = recorded[0]["depth/primary"]
        assert 0.3 < depth.min() < 1.5
    opening = tasks["pick-and-place"][0]["state"][:, 3]
    assert opening.max() > 0.08 and opening[-1] == pytest.approx(0.05, abs=0.005), "it holds the block"


@simulator
def test_an_episode_is_the_same_whoever_looks_and_whatever_came_before(pool):
    looked, unseen = pool.submit(alone, 7, True).result(), pool.submit(alone, 7, False).result()
    for task, (_, last) in looked.items():
        np.testing.assert_array_equal(last.state, unseen[task][1].state)
        for role in SETTINGS["cameras"]:
            np.testing.assert_array_equal(last.rgb[role], unseen[task][1].rgb[role])
            np.testing.assert_array_equal(last.depth[role], unseen[task][1].depth[role])
