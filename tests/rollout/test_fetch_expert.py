"""What the controller does at each stage, from where things are."""

import numpy as np
import pytest

from farsighted_jax.rollout.fetch_expert import CLOSED, OPEN, pick_and_place, push, reach

OBJECT, GOAL = np.array([1.3, 0.7, 0.42]), np.array([1.3, 0.9, 0.6])
HELD, WIDE = 0.05, 0.1


def test_the_hand_goes_to_the_goal_and_stays_there():
    action = reach(OBJECT, GOAL)
    assert action.dtype == np.float32 and action[0] == 0 and (action[1:3] > 0).all() and action.max() <= 1
    np.testing.assert_array_equal(reach(GOAL, GOAL)[:3], 0)


def test_an_object_is_approached_from_above_held_and_carried():
    aside = pick_and_place(OBJECT + [0.1, 0, 0], WIDE, OBJECT, GOAL)
    assert aside[0] < 0 < aside[2] and aside[3] == OPEN
    above = pick_and_place(OBJECT + [0, 0, 0.08], WIDE, OBJECT, GOAL)
    assert above[2] < 0 and above[3] == OPEN
    there = pick_and_place(OBJECT, WIDE, OBJECT, GOAL)
    np.testing.assert_array_equal(there, [0, 0, 0, CLOSED])
    held = pick_and_place(OBJECT, HELD, OBJECT, GOAL)
    assert held[1] > 0 and held[2] > 0 and held[3] == CLOSED


def test_an_object_is_pushed_from_behind_and_gone_around_high():
    behind = push(OBJECT - [0, 0.07, 0], OBJECT, GOAL)
    assert behind[1] > 0 and abs(behind[0]) < 1e-6 and behind[3] == CLOSED
    before = push(OBJECT + [0, 0.05, 0], OBJECT, GOAL)
    np.testing.assert_allclose(before[:2], 0, atol=1e-6)
    assert before[2] > 0, "up first, then over it"
    high = push(OBJECT + [0, 0.05, 0.08], OBJECT, GOAL)
    assert high[1] < 0
    down = push(OBJECT + [0, -0.075, 0.08], OBJECT, GOAL)
    assert down[2] < 0 and abs(down[1]) < 1e-6


@pytest.mark.parametrize("aside", [-0.015, 0.015])
def test_the_hand_gets_back_onto_the_line_as_it_pushes(aside):
    action = push(OBJECT + [aside, -0.06, 0], OBJECT, GOAL)
    assert np.sign(action[0]) == -np.sign(aside) and action[1] > 0
