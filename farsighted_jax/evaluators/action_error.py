"""Open-loop error of the sampled action chunk, beside two guesses that look at nothing."""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.evaluators.base import Arrays, EvaluationError, Setup, finite_or_none

BASELINES = ("_mean", "_repeat")
# Quantity -> the power of the error whose mean it is a root of.
POWERS = {"mae": 1, "rmse": 2}


class ActionError:
    """Mean absolute and root mean square error of action chunks, per dataset.

    Baselines: `_mean`, the mean action of the training split; `_repeat`, the
    action of the step before frame 0 for the whole chunk, and the mean action
    where an episode begins at frame 0. `_over_mean` and `_over_repeat` are the
    policy's error over theirs; below 1 it is the better one.

    Every quantity is given over "all", for each "group" and "dimension" of the
    action space, and for each "step" of the chunk (by group; a list of J).
    "normalised" has actions as the policy sees them; "own_units" has none over
    all, for metres and radians have no common mean.
    """

    needs = frozenset({"action"})

    def __init__(self, setup: Setup):
        if not setup.action_scales:
            raise EvaluationError(
                "evaluator 'action_error' needs Setup.action_scales, one a dataset; found none"
            )
        self._scales, self._datasets = setup.action_scales, setup.datasets
        # dataset -> quantity -> float64[J, M], sums; "count" of valid elements among them.
        self._sums: dict[int, dict[str, np.ndarray]] = {}
        self._num: dict[int, dict[str, int]] = {}

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds one batch; EvaluationError where it has actions, but not the last ones before them."""
        if "action" not in outputs or "action" not in batch:
            return
        if "last_action" not in batch:
            raise EvaluationError(f"batch lacks the field 'last_action'; it has {sorted(batch)}")
        valid_BJM, dataset_B = np.asarray(batch["action_valid"]), np.asarray(batch["dataset"])
        for index in np.unique(dataset_B[valid_BJM.any(axis=(1, 2))]).tolist():
            rows_B = (dataset_B == index) & valid_BJM.any(axis=(1, 2))
            self._add(index, batch, outputs["action"][rows_B], rows_B)

    def _add(self, index, batch, action_QJM, rows_B):
        scale = self._scales[index]
        if scale is None:
            return
        width = len(scale.mean)
        valid_QJM = np.asarray(batch["action_valid"])[rows_B, :, :width]
        true_QJM = np.asarray(batch["action"], np.float64)[rows_B, :, :width]
        known_QM = np.asarray(batch["last_action_valid"])[rows_B, :width]
        last_QM = np.where(known_QM, np.asarray(batch["last_action"], np.float64)[rows_B, :width], scale.mean)
        guesses = {"": action_QJM[..., :width], "_mean": scale.mean, "_repeat": last_QM[:, None]}
        sums = {"count": valid_QJM}
        for suffix, guess in guesses.items():
            error_QJM = np.abs(np.where(valid_QJM, guess - true_QJM, 0.0))
            sums |= {f"{name}{suffix}": error_QJM**power for name, power in POWERS.items()}
        kept = self._sums.setdefault(index, {})
        for name, values_QJM in sums.items():
            kept[name] = kept.get(name, 0) + values_QJM.sum(axis=0)
        num = self._num.setdefault(index, {"num_chunks": 0, "num_at_begin": 0})
        num["num_chunks"] += len(true_QJM)
        num["num_at_begin"] += int(np.sum(~known_QM.any(axis=1)))

    def result(self) -> dict[str, Any]:
        """Dataset -> "normalised" or "own_units" -> quantity -> place -> value; see the class."""
        result = {}
        for index in sorted(self._sums):
            spec, sums = self._datasets[index], self._sums[index]
            own = {
                name: values_JM * self._scales[index].unit ** _power(name) for name, values_JM in sums.items()
            }
            groups, units = _groups(spec.action), _units(spec.action)
            common = {group: groups[group] for group in units["group"]}
            result[spec.name] = {
                **self._num[index],
                "units": units,
                "normalised": _quantities(
                    sums, {"all": np.ones(spec.action.width, bool), **groups}, spec.action
                ),
                "own_units": _quantities(own, common, spec.action),
            }
        return result


def _power(name):
    """That of the errors which were summed up; 0 for the count."""
    return POWERS.get(name.partition("_")[0], 0)


def _groups(action: ActionSpec):
    """Group -> its dimensions, bool[M]."""
    return {
        group: np.array([other == group for other in action.groups]) for group in dict.fromkeys(action.groups)
    }


def _units(action: ActionSpec):
    """Units of the dimensions, and of the groups that have one in common."""
    found = {group: set(np.array(action.units)[chosen_M]) for group, chosen_M in _groups(action).items()}
    return {
        "dimension": dict(zip(action.names, action.units, strict=True)),
        "group": {group: str(*units) for group, units in found.items() if len(units) == 1},
    }


def _quantities(sums, pooled, action: ActionSpec):
    """Quantity -> place -> value; `pooled` are the groups to be given, "all" maybe among them."""
    dimensions = dict(zip(action.names, np.eye(action.width, dtype=bool), strict=True))
    found = {}
    for name in POWERS:
        for suffix in ("", *BASELINES):
            found[f"{name}{suffix}"] = _places(sums, name + suffix, pooled, dimensions)
        for suffix in BASELINES:
            found[f"{name}_over{suffix}"] = _ratios(found[name], found[name + suffix])
    return found


def _places(sums, quantity, pooled, dimensions):
    """The mean over each place that is asked for."""

    def mean(chosen_M, steps=slice(None)):
        count = sums["count"][steps][..., chosen_M].sum()
        if not count:
            return None
        total = sums[quantity][steps][..., chosen_M].sum()
        return finite_or_none((total / count) ** (1 / _power(quantity)))

    over = {name: mean(chosen_M) for name, chosen_M in pooled.items()}
    return {
        **({"all": over.pop("all")} if "all" in over else {}),
        "group": over,
        "dimension": {name: mean(chosen_M) for name, chosen_M in dimensions.items()},
        "step": {
            name: [mean(chosen_M, step) for step in range(len(sums["count"]))]
            for name, chosen_M in pooled.items()
        },
    }


def _ratios(numerator, denominator):
    """The same tree of numerator over denominator; None where either is missing or the latter is 0."""
    if isinstance(numerator, dict):
        return {name: _ratios(numerator[name], denominator[name]) for name in numerator}
    if isinstance(numerator, list):
        return [_ratios(*pair) for pair in zip(numerator, denominator, strict=True)]
    return numerator / denominator if numerator is not None and denominator else None
