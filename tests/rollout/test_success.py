"""Success rates and their intervals."""

import pytest

from farsighted_jax.rollout.success import summary, wilson_interval


@pytest.mark.parametrize(
    ("successes", "trials", "expected"),
    # Newcombe, 1998, table I, method 3.
    [
        (81, 263, (0.2553, 0.3662)),
        (15, 148, (0.0624, 0.1605)),
        (0, 20, (0.0, 0.1611)),
        (1, 29, (0.0061, 0.1718)),
    ],
)
def test_intervals_are_the_published_ones(successes, trials, expected):
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=5e-5)


def test_nothing_is_known_without_a_trial():
    assert wilson_interval(0, 0) == (0.0, 1.0)


def episode(task, success, steps=10):
    return {"task": task, "success": success, "steps": steps}


def test_means_are_over_episodes_tasks_and_groups_each_in_its_own_way():
    episodes = [episode("a", True, 8), episode("a", True, 4), episode("a", True, 5), episode("a", False, 400)]
    episodes += [episode("b", False), episode("c", True)]
    found = summary(episodes, {"a": "easy", "b": "easy", "c": "hard"})
    assert found["success"] == pytest.approx(4 / 6) and found["episodes"] == 6
    assert found["task_mean"] == pytest.approx((0.75 + 0 + 1) / 3)
    assert found["groups"]["easy"]["success"] == pytest.approx(0.375)
    assert found["group_mean"] == pytest.approx((0.375 + 1) / 2)
    assert found["tasks"]["a"]["steps_to_success"] == 5 and found["tasks"]["b"]["steps_to_success"] is None
    assert found["tasks"]["b"]["interval"] == list(wilson_interval(0, 1))


def test_tasks_without_a_group_have_no_group_mean():
    assert summary([episode("a", True)], {})["group_mean"] is None
