"""The table of Meta-World's tasks: complete, grouped as the field groups them, no sentence twice."""

import collections
import importlib.util

import pytest

from farsighted_jax.rollout.metaworld_tasks import EASY, HARD, INSTRUCTIONS, MEDIUM, TASK_GROUPS, VERY_HARD


def test_groups_have_the_sizes_of_the_fields_tables():
    assert collections.Counter(TASK_GROUPS.values()) == {EASY: 28, MEDIUM: 11, HARD: 6, VERY_HARD: 5}


def test_no_two_tasks_are_told_alike():
    sentences = [text for texts in INSTRUCTIONS.values() for text in texts]
    assert len(sentences) == len(set(sentences)) == 150
    assert all(text == text.strip().lower() for text in sentences)


@pytest.mark.skipif(importlib.util.find_spec("metaworld") is None, reason="extra 'sim' is not installed")
def test_they_are_the_tasks_of_the_package():
    from metaworld.policies import ENV_POLICY_MAP

    assert set(INSTRUCTIONS) == {name.removesuffix("-v3") for name in ENV_POLICY_MAP}
