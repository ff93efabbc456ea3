"""Checks of single values: constants, outliers, units, the gripper's ends."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from data_pipelines.checks.finding import ERROR, NOTE, WARNING, Finding
from data_pipelines.checks.survey import Survey
from data_pipelines.oddities import oddities

# Beyond these no arm reaches: (unit, is a change) -> largest value that is still usual.
FARTHEST = {("m", False): 3.0, ("m", True): 0.3, ("rad", False): 4 * np.pi, ("rad", True): np.pi / 2}
# A gripper's value may pass its declared ends by this share of the way between them.
GRIPPER_MARGIN = 0.1


def check_oddities(survey: Survey) -> Iterator[Finding]:
    """Dimensions that never change, and values far off all others."""
    for oddity in oddities(survey.statistics, survey.spec):
        if oddity.kind == "constant":
            severity = WARNING if oddity.array == "action" else NOTE
            yield survey.finding(severity, "constant", str(oddity), "leave it out if it means nothing")
        else:
            mend = "repair or drop that episode; normalisation by quantiles bears it, by mean_std it does not"
            yield survey.finding(WARNING, "outlier", str(oddity), mend, oddity.episode)


def check_units(survey: Survey) -> Iterator[Finding]:
    """Actions in m or rad that are larger than any arm makes them."""
    spec, statistics = survey.spec.action, survey.statistics.action
    if statistics is None:
        return
    for i, (name, unit, delta) in enumerate(zip(spec.names, spec.units, spec.delta, strict=True)):
        limit = FARTHEST.get((unit, delta))
        usual = max(abs(statistics.q01[i]), abs(statistics.q99[i]))
        if limit and spec.groups[i] != "gripper" and usual > limit:
            kind = "a change a step" if delta else "an absolute value"
            found = f"action {name!r} reaches {usual:.3g} {unit} as {kind}, expected at most {limit:.3g}"
            yield survey.finding(WARNING, "range", found, "correct the unit, or whether it is a change")


def check_gripper_ends(survey: Survey) -> Iterator[Finding]:
    """Whether an absolute gripper moves between the two ends that the specification names."""
    spec, statistics = survey.spec.action, survey.statistics.action
    if statistics is None:
        return
    for i, (name, group, delta) in enumerate(zip(spec.names, spec.groups, spec.delta, strict=True)):
        if group != "gripper" or delta:
            continue
        ends = np.array([statistics.q01[i], statistics.q99[i]])
        if (ends < -GRIPPER_MARGIN).any() or (ends > 1 + GRIPPER_MARGIN).any():
            stored = sorted(spec.gripper_closed + ends * (spec.gripper_open - spec.gripper_closed))
            found = (
                f"action {name!r} lies between {stored[0]:.3g} and {stored[1]:.3g}, expected "
                f"{spec.gripper_closed:g} (closed) to {spec.gripper_open:g} (open)"
            )
            mend = "set gripper_open and gripper_closed of the specification to what is stored"
            yield survey.finding(ERROR, "gripper", found, mend)
