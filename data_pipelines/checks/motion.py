"""Checks of what moves: rate, speed, jumps, idle steps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_pipelines.checks.finding import ERROR, NOTE, WARNING, Finding
from data_pipelines.checks.survey import Survey
from data_pipelines.oddities import state_names
from farsighted_jax.core.spec import ActionSpec

# What cameras and controllers of robots run at, with room on both sides.
USUAL_HZ = (1.0, 240.0)
USUAL_SECONDS = (1.0, 600.0)
# An arm moves up to 1 or 2 m/s and turns once a second.
FASTEST = {"m": 3.0, "rad": 4 * np.pi}
TIMESTAMP_TOLERANCE = 0.02
# A step this many times as long as 99 % of the steps are at most.
JUMP = 10.0
STILL = 0.01
MANY_IDLE = 0.3


def check_rate(survey: Survey) -> Iterator[Finding]:
    """Whether frames a second can be as the specification says."""
    spec = survey.spec
    if not spec.hz:
        mend = "give hz in dataset_spec.json, or data.dataset_hz"
        yield survey.finding(ERROR, "fps", "the frames a second are not known", mend)
        return
    if not USUAL_HZ[0] <= spec.hz <= USUAL_HZ[1]:
        found = f"{spec.hz:g} frames a second, expected {USUAL_HZ[0]:g} to {USUAL_HZ[1]:g}"
        yield survey.finding(WARNING, "fps", found, "correct hz in the specification")
    if spec.action and spec.action.hz != spec.hz:
        found = f"actions at {spec.action.hz:g} Hz, frames at {spec.hz:g} Hz, one action a frame"
        yield survey.finding(ERROR, "fps", found, "give both the same rate")
    seconds = [episode.num_steps / spec.hz for episode in survey.episodes if episode.num_steps > 1]
    median = float(np.median(seconds)) if seconds else USUAL_SECONDS[0]
    if not USUAL_SECONDS[0] <= median <= USUAL_SECONDS[1]:
        found = f"half of the episodes last {median:.3g} s or less at {spec.hz:g} Hz, expected 1 s to 10 min"
        yield survey.finding(WARNING, "fps", found, "correct hz in the specification")
    yield from _check_timestamps(survey)


def check_speed(survey: Survey) -> Iterator[Finding]:
    """Whether actions in m and rad, at that rate, are motion that an arm can make."""
    spec = survey.spec.action
    if spec is None or not survey.spec.hz:
        return
    steps = [np.abs(motion(episode.actions, spec)) for episode in survey.moving()]
    if not steps:
        return
    usual_M = np.quantile(np.concatenate(steps), 0.99, axis=0) * survey.spec.hz
    for name, unit, group, speed in zip(spec.names, spec.units, spec.groups, usual_M, strict=True):
        limit = FASTEST.get(unit)
        if limit and group != "gripper" and speed > limit:
            found = f"99 % of action {name!r} is at most {speed:.3g} {unit}/s, expected < {limit:.3g}"
            yield survey.finding(WARNING, "fps", found, "correct hz, the unit, or whether it is a change")


def check_jumps(survey: Survey) -> Iterator[Finding]:
    """Leaps of absolute actions and of the state within an episode."""
    spec = survey.spec
    arrays = []
    if spec.action:
        steady = [
            not d and g != "gripper" for d, g in zip(spec.action.delta, spec.action.groups, strict=True)
        ]
        arrays.append(("action", spec.action.names, steady, lambda episode: episode.actions))
    if survey.statistics.state:
        names = state_names(spec, len(survey.statistics.state.mean))
        steady = ["gripper" not in name for name in names]
        arrays.append(("state", names, steady, lambda episode: episode.states))
    for array, names, steady, rows in arrays:
        steps = {e.number: np.abs(np.diff(rows(e), axis=0)) for e in survey.episodes if e.num_steps > 1}
        if not steps:
            continue
        all_steps = np.concatenate(list(steps.values()))
        usual_M, largest_M = np.quantile(all_steps, 0.99, axis=0), all_steps.max(0)
        for i, name in enumerate(names):
            if not steady[i] or not usual_M[i] or largest_M[i] <= JUMP * usual_M[i]:
                continue
            number = next(number for number, of in steps.items() if of[:, i].max() == largest_M[i])
            step = int(steps[number][:, i].argmax())
            count = int((all_steps[:, i] > JUMP * usual_M[i]).sum())
            wraps = abs(largest_M[i] - 2 * np.pi) < 0.5
            found = (
                f"{array} {name!r} leaps by {largest_M[i]:.3g} after step {step}, 99 % of its steps are at "
                f"most {usual_M[i]:.3g}; {count} such leaps"
            )
            mend = (
                "it looks like an angle that wraps: store it unwrapped or as rot6d"
                if wraps
                else ("look there for two episodes in one, lost frames or a sensor's fault")
            )
            yield survey.finding(WARNING, "continuity", found, mend, number)


def check_idle(survey: Survey) -> Iterator[Finding]:
    """Steps in which nothing is commanded to move, and episodes that begin with many of them."""
    spec = survey.spec.action
    idle = idle_steps(survey)
    if not idle:
        return
    share = float(np.concatenate(list(idle.values())).mean())
    if share > MANY_IDLE:
        found = f"{share:.0%} of the steps command no motion"
        yield survey.finding(WARNING, "idle", found, "cut them, or nothing is what is learned best")
    leading = [int((~still).argmax()) if not still.all() else len(still) for still in idle.values()]
    seconds = float(np.median(leading)) / spec.hz
    if seconds >= 1:
        found = f"half of the episodes begin with {seconds:.3g} s or more without motion"
        yield survey.finding(NOTE, "idle", found, "cut the beginnings")


def motion(actions_LM: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """What each step moves, float[L, M]: the action where it is a change, else its change since the last."""
    steps = np.diff(actions_LM, axis=0, prepend=actions_LM[:1])
    # The first step follows nothing: it counts as the second.
    steps[:1] = steps[1:2] if len(steps) > 1 else 0
    return np.where(np.asarray(spec.delta), actions_LM, steps)


def idle_steps(survey: Survey) -> dict[int, np.ndarray]:
    """Which steps command no motion, episode number -> bool[L].

    Every dimension outside the gripper moves by at most 1 % of its usual step,
    and the gripper's command is that of the step before.
    """
    spec = survey.spec.action
    if spec is None:
        return {}
    steps = {episode.number: motion(episode.actions, spec) for episode in survey.moving()}
    gripper = np.array([group == "gripper" for group in spec.groups])
    if not steps or gripper.all():
        return {}
    usual_M = np.quantile(np.abs(np.concatenate(list(steps.values()))), 0.99, axis=0)
    limits_M = STILL * usual_M[~gripper]
    return {
        episode.number: (np.abs(steps[episode.number][:, ~gripper]) <= limits_M).all(1)
        & ~(
            np.abs(np.diff(episode.actions[:, gripper], axis=0, prepend=episode.actions[:1, gripper])) > STILL
        ).any(1)
        for episode in survey.moving()
    }


def _check_timestamps(survey):
    for episode in survey.episodes:
        if episode.timestamps is None or episode.num_steps < 2:
            continue
        gaps = np.diff(episode.timestamps) * survey.spec.hz
        worst = int(np.abs(gaps - 1).argmax())
        if abs(gaps[worst] - 1) > TIMESTAMP_TOLERANCE:
            found = (
                f"steps {worst} and {worst + 1} are {gaps[worst] / survey.spec.hz:.4g} s apart, expected "
                f"{1 / survey.spec.hz:.4g} s at {survey.spec.hz:g} Hz"
            )
            mend = "correct the rate, or write frames at a fixed one"
            yield survey.finding(ERROR, "fps", found, mend, episode.number)
            return
