"""Checks of what actions mean, by what the state does after them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_pipelines.checks.finding import ERROR, NOTE, WARNING, Finding
from data_pipelines.checks.survey import Survey
from data_pipelines.trajectory import oriented

MIN_PAIRS = 50
# How long fingers take to follow a command.
GRIPPER_LAGS_S = (0.0, 0.2, 0.5, 1.0)
RELATED, STRONG = 0.3, 0.6


def check_assumed(survey: Survey) -> Iterator[Finding]:
    """What the specification says without the dataset saying it."""
    if survey.split.assumed:
        place = f"dataset_spec.json in {survey.split.directory}"
        mend = f"save the specification that the card ends with, corrected, as {place}"
        yield survey.finding(WARNING, "meaning", survey.split.assumed, mend)


def check_meaning(survey: Survey) -> Iterator[Finding]:
    """Whether changes are changes and absolute values are absolute, axis by axis of the same name."""
    spec = survey.spec.action
    if spec is None or not survey.spec.state_names:
        return
    for i, name in enumerate(spec.names):
        if name not in survey.spec.state_names or spec.groups[i] == "gripper":
            continue
        j = survey.spec.state_names.index(name)
        pairs = [(e.actions[:-1, i], e.states[1:, j], np.diff(e.states[:, j])) for e in survey.moving()]
        if sum(len(action) for action, _, _ in pairs) < MIN_PAIRS:
            return
        action, reached, change = (
            np.concatenate(column).astype(np.float64) for column in zip(*pairs, strict=True)
        )
        as_change, as_place = correlation(action, change), correlation(action, reached)
        told = f"correlation with the state's change {as_change:.2f}, with the state itself {as_place:.2f}"
        if spec.delta[i] and as_place > 0.9 and as_place > as_change + 0.2:
            found = f"action {name!r} is declared a change but follows the state itself ({told})"
            yield survey.finding(ERROR, "meaning", found, "set its delta to false in the specification")
        elif not spec.delta[i] and as_change > STRONG and as_place < STRONG:
            found = f"action {name!r} is declared absolute but is a change ({told})"
            yield survey.finding(ERROR, "meaning", found, "set its delta to true in the specification")
        elif spec.delta[i] and as_change < -STRONG:
            found = f"action {name!r} moves the state the other way ({told})"
            yield survey.finding(ERROR, "meaning", found, "turn the axis round where the dataset is written")


def check_gripper_polarity(survey: Survey) -> Iterator[Finding]:
    """Whether the state's gripper opens where the action says open."""
    spec = survey.spec
    if spec.action is None or survey.statistics.action is None:
        return
    commands = [
        i
        for i, (group, delta) in enumerate(zip(spec.action.groups, spec.action.delta, strict=True))
        if group == "gripper" and not delta
    ]
    fingers = [j for j, name in enumerate(spec.state_names) if "gripper" in name or "finger" in name]
    if not commands:
        return
    if len(fingers) % len(commands) or not fingers or survey.statistics.state is None:
        found = f"cannot be compared with a state of {list(spec.state_names)}"
        yield survey.finding(NOTE, "gripper", found, "name the state's gripper in state_names")
        return
    for place, i in enumerate(commands):
        j = fingers[place * (len(fingers) // len(commands))]
        value = _follows(survey, i, j)
        names = f"action {spec.action.names[i]!r} (1 = open) and state {spec.state_names[j]!r}"
        if value is None:
            found = f"{names} move too little to be compared"
            yield survey.finding(NOTE, "gripper", found)
        elif value < -RELATED:
            found = f"{names} go opposite ways, correlation {value:.2f}: open is closed"
            mend = "exchange gripper_open and gripper_closed, unless that state is large where it is closed"
            yield survey.finding(WARNING, "gripper", found, mend)
        elif value < RELATED:
            found = f"{names} are hardly related, correlation {value:.2f}"
            yield survey.finding(NOTE, "gripper", found, "look whether both are of the same gripper")


def correlation(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of two float[N]; 0 where one does not change."""
    if x.std() < 1e-9 or y.std() < 1e-9:
        return 0.0
    return float(np.corrcoef(x, y)[0, 1])


def _follows(survey, i, j):
    """Correlation of a command with what the fingers do a little later, at the delay where it is largest."""
    values = []
    episodes = [(oriented(e.actions, survey.spec.action)[:, i], e.states[:, j]) for e in survey.moving()]
    for lag in sorted({max(1, round(seconds * (survey.spec.hz or 1))) for seconds in GRIPPER_LAGS_S}):
        pairs = [(command[:-lag], state[lag:]) for command, state in episodes if len(command) > lag]
        if sum(len(command) for command, _ in pairs) < MIN_PAIRS:
            break
        command, state = (np.concatenate(column).astype(np.float64) for column in zip(*pairs, strict=True))
        if command.std() > 1e-6 and state.std() > 1e-6:
            values.append(correlation(command, state))
    return max(values, key=abs) if values else None
