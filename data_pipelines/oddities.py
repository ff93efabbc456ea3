"""Dimensions that training should not meet unawares: those that never change, and values far off."""

from __future__ import annotations

import dataclasses

import numpy as np

from data_pipelines.statistics import SplitStatistics
from farsighted_jax.core.spec import DatasetSpec

# A value counts as an outlier this many widths of the range of 98 % of the values away from that range.
OUTLIER_WIDTHS = 3.0


@dataclasses.dataclass(frozen=True)
class Oddity:
    """What is odd about one dimension.

    Attributes:
      kind: "constant" or "outlier".
      array: "action" or "state".
      dimension: its name.
      value: the constant or the outlier, oriented as `trajectory.oriented` does it.
      usual: 1st and 99th percentile.
      episode: where the value first stands.
      step: likewise.
    """

    kind: str
    array: str
    dimension: str
    value: float
    usual: tuple[float, float]
    episode: int
    step: int

    def __str__(self):
        place = f"{self.array} {self.dimension!r}"
        if self.kind == "constant":
            return f"{place} is {self.value:g} in every step"
        usual = f"98 % of the values lie within {self.usual[0]:g} and {self.usual[1]:g}"
        return f"{place} is {self.value:g} in episode {self.episode}, step {self.step}; {usual}"


def state_names(spec: DatasetSpec, width: int) -> tuple[str, ...]:
    """Names of the state's dimensions, their numbers where the specification gives none."""
    return spec.state_names or tuple(str(i) for i in range(width))


def oddities(statistics: SplitStatistics, spec: DatasetSpec) -> list[Oddity]:
    """Constant dimensions and outliers of a split; a gripper, which jumps, has no outliers.

    Of a dimension the smallest and the largest value are looked at, so that at
    most two of its outliers are named.
    """
    found = []
    if statistics.action:
        jumps = [group == "gripper" for group in spec.action.groups]
        found += _of_array("action", statistics, statistics.actions, spec.action.names, jumps)
    if statistics.state:
        names = state_names(spec, len(statistics.state.mean))
        jumps = ["gripper" in name for name in names]
        found += _of_array("state", statistics, statistics.states, names, jumps)
    return found


def _of_array(array, statistics, running, names, jumps):
    of, ends, found = running.result(), np.cumsum(statistics.lengths), []

    def oddity(kind, i, value, row):
        episode = int(np.searchsorted(ends, row, side="right"))
        step = int(row - ends[episode] + statistics.lengths[episode])
        usual = float(of.q01[i]), float(of.q99[i])
        return Oddity(kind, array, names[i], float(value), usual, episode, step)

    first_rows, last_rows = running.extreme_rows
    for i, jump in enumerate(jumps):
        if of.min[i] == of.max[i]:
            found.append(oddity("constant", i, of.min[i], first_rows[i]))
            continue
        far = OUTLIER_WIDTHS * (of.q99[i] - of.q01[i])
        # Where nearly all values are one and the same, the others may well be what matters.
        if jump or not far:
            continue
        if of.min[i] < of.q01[i] - far:
            found.append(oddity("outlier", i, of.min[i], first_rows[i]))
        if of.max[i] > of.q99[i] + far:
            found.append(oddity("outlier", i, of.max[i], last_rows[i]))
    return found
