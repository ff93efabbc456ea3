"""Success rates with what is known about them: Wilson intervals, by task, by group, and over all."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import Any

Z_95 = 1.959964


def wilson_interval(successes: int, trials: int, z: float = Z_95) -> tuple[float, float]:
    """Bounds of a success rate (Wilson, 1927), 95 % by default; (0, 1) without a trial."""
    if trials == 0:
        return 0.0, 1.0
    rate, square = successes / trials, z * z / trials
    middle = (rate + square / 2) / (1 + square)
    half = z * math.sqrt(rate * (1 - rate) / trials + square / (4 * trials)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def summary(episodes: Iterable[Mapping[str, Any]], groups: Mapping[str, str]) -> dict[str, Any]:
    """Success rates of one controller's episodes.

    Args:
      episodes: each with "task", "success" and "steps".
      groups: task -> group; tasks of none are left out of the groups.

    Returns:
      "episodes", "success" (over all episodes), "interval", "task_mean", "group_mean" (None without a
      group), and "tasks" and "groups", name -> "success", "interval" and "episodes"; those of tasks have
      "steps_to_success", a median or None.
    """
    by_task: dict[str, list[Mapping[str, Any]]] = {}
    for episode in episodes:
        by_task.setdefault(episode["task"], []).append(episode)
    by_group: dict[str, list[Mapping[str, Any]]] = {}
    for task, done in by_task.items():
        if task in groups:
            by_group.setdefault(groups[task], []).extend(done)
    tasks = {}
    for task, done in sorted(by_task.items()):
        steps = [episode["steps"] for episode in done if episode["success"]]
        tasks[task] = _rate(done) | {"steps_to_success": statistics.median(steps) if steps else None}
    # A group's rate is the mean of its tasks', as the field's tables have it.
    group_rates = {
        group: statistics.fmean(tasks[task]["success"] for task in tasks if groups.get(task) == group)
        for group in by_group
    }
    everything = [episode for done in by_task.values() for episode in done]
    return {
        **_rate(everything),
        "task_mean": statistics.fmean(entry["success"] for entry in tasks.values()) if tasks else None,
        "group_mean": statistics.fmean(group_rates.values()) if group_rates else None,
        "tasks": tasks,
        "groups": {group: _rate(done) | {"success": group_rates[group]} for group, done in by_group.items()},
    }


def _rate(episodes):
    successes = sum(bool(episode["success"]) for episode in episodes)
    return {
        "success": successes / len(episodes) if episodes else None,
        "interval": list(wilson_interval(successes, len(episodes))),
        "episodes": len(episodes),
    }
