"""An episode for a policy: what it is shown, when it ends, and that nothing is rendered for nobody."""

import numpy as np
import pytest
from line_environment import Line

from farsighted_jax.rollout.actor import Actor, Senses
from farsighted_jax.rollout.environment import RolloutError

HALF = np.array([0.5, 0, 0, 0], np.float32)


def actor(max_steps=30, **senses):
    environment = Line()
    return environment, Actor(environment, Senses(("primary",), **senses), max_steps)


def test_a_policy_is_shown_what_it_reads_and_no_more():
    _, full = actor(depth_cameras=("primary",))
    observation = full.begin("go", 3).observation
    assert set(observation) == {"rgb", "depth", "state", "instruction"} and observation["instruction"] == "go"
    depth = observation["depth"]["primary"]
    assert depth.dtype == np.uint16 and depth[0, 0, 0] == 0 and (depth[0, 1:] == 3000).all()
    _, blind = actor(state=False, instruction=False)
    assert set(blind.begin("go", 3).observation) == {"rgb"}


def test_an_episode_ends_with_success_or_at_its_last_step():
    _, walker = actor()
    walker.begin("go", 6)
    assert not walker.act(np.stack([HALF] * 3)).ended
    done = walker.act(np.stack([HALF] * 3))
    assert done.ended and done.success and done.steps == 4
    _, short = actor(max_steps=5)
    short.begin("stay", 6)
    short.act(np.stack([HALF] * 3))
    over = short.act(np.stack([HALF] * 3))
    assert over.ended and not over.success and over.steps == 5


def test_only_what_is_looked_at_is_rendered():
    environment, walker = actor()
    walker.begin("go", 0)
    walker.act(np.stack([HALF] * 4))
    assert environment.looked == 2
    environment, floor = actor()
    assert floor.alone("go", 0, "expert").steps == 10 and environment.looked == 0


def test_a_history_has_the_frames_between_two_questions():
    _, walker = actor(history_steps=(2, 1, 0))
    assert walker.begin("go", 1).observation["rgb"]["primary"].shape[0] == 1
    seen = walker.act(np.stack([HALF] * 4)).observation["rgb"]["primary"]
    assert seen[:, 0, 0, 0].tolist() == [3, 4, 5]


def test_a_film_has_every_frame():
    _, walker = actor()
    assert walker.begin("go", 6).frames is None
    frames = [walker.begin("go", 6, True).frames, walker.act(np.stack([HALF] * 3)).frames]
    frames.append(walker.act(np.stack([HALF] * 3)).frames)
    assert np.concatenate(frames)[:, 0, 0, 0].tolist() == [6, 7, 8, 9, 10]


def test_random_actions_come_from_the_seed():
    _, floor = actor()
    assert floor.alone("go", 4, "random") == floor.alone("go", 4, "random")


def test_what_the_environment_cannot_give_is_named():
    with pytest.raises(RolloutError, match="line has no camera"):
        Actor(Line(), Senses(("wrist",)), 10)
    with pytest.raises(RolloutError, match="episodes of 41 steps, expected 1 to 40"):
        Actor(Line(), Senses(("primary",)), 41)
