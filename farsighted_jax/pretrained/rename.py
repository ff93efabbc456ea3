"""Weights of other implementations by a table of names that is strict both ways.

A rule maps one name of the source to one parameter path of ours. "{i}" in a
source name stands for the index of a layer; our layers are stacked on a
leading axis, so such a rule gathers all of them. "{any}" stands for a number
that says nothing. Several rules may read one name, each taking its part of a
fused array. A source name without a rule, a path of ours that no rule fills or
that two names fill, and a shape that does not fit are errors, all of them
listed at once.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence

import numpy as np


class ConversionError(ValueError):
    """Weights do not fit the table or the model; the message lists every name and shape."""


def copied(array: np.ndarray) -> np.ndarray:
    """The array as it is."""
    return array


def transposed(array: np.ndarray) -> np.ndarray:
    """A torch Linear weight [out, in] as a Dense kernel [in, out]."""
    return array.T


def part(index: int, count: int, change: Callable[[np.ndarray], np.ndarray] = copied):
    """A change that takes one of `count` equal parts along the first axis of a fused array."""

    def taken(array: np.ndarray) -> np.ndarray:
        if len(array) % count:
            raise ValueError(f"{len(array)} rows are not {count} equal parts")
        size = len(array) // count
        return change(array[index * size : (index + 1) * size])

    return taken


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
      source: name in the source, "{i}" for a layer index, "{any}" for a number without meaning.
      target: our parameter path.
      change: what is done to each array.
      tied: whether the target may be filled by several tied names, if with equal values.
    """

    source: str
    target: str
    change: Callable[[np.ndarray], np.ndarray] = copied
    tied: bool = False

    @property
    def pattern(self) -> re.Pattern[str]:
        """Regular expression that the whole source name must match."""
        escaped = re.escape(self.source).replace(r"\{i\}", r"(?P<i>\d+)")
        return re.compile(escaped.replace(r"\{any\}", r"\d+"))


def converted(
    source: Mapping[str, np.ndarray],
    rules: Sequence[Rule],
    expected: Mapping[str, tuple[int, ...]],
    ignored: Sequence[str] = (),
) -> dict[str, np.ndarray]:
    """Applies a table.

    Args:
      source: name -> array.
      rules: the table.
      expected: our parameter path -> shape, all that must be filled.
      ignored: patterns of source names that are left out on purpose.

    Returns:
      Our parameter path -> array, for exactly the expected paths.

    Raises:
      ConversionError: see the module.
    """
    gathered: dict[str, dict[int, np.ndarray]] = {}
    problems = []
    patterns = [(rule, rule.pattern) for rule in rules]
    for name, array in source.items():
        if any(re.search(pattern, name) for pattern in ignored):
            continue
        matches = [(rule, m) for rule, pattern in patterns if (m := pattern.fullmatch(name))]
        if not matches:
            problems.append(f"{name}: no rule for this name")
        for rule, match in matches:
            layer = int(match["i"]) if "{i}" in rule.source else -1
            layers = gathered.setdefault(rule.target, {})
            if layer in layers and not rule.tied:
                problems.append(f"{name}: another name has filled {rule.target} already")
                continue
            try:
                value = rule.change(np.asarray(array))
            except ValueError as error:
                problems.append(f"{name}, shape {list(np.shape(array))}, for {rule.target}: {error}")
                continue
            if layer in layers and not np.array_equal(layers[layer], value):
                problems.append(f"{name}: differs from the tied name that has filled {rule.target} already")
            layers.setdefault(layer, value)
    result = {}
    for path, layers in gathered.items():
        if layers:
            result[path] = layers[-1] if -1 in layers else _stacked(path, layers, problems)
    for path in sorted(expected.keys() | result.keys()):
        want, have = expected.get(path), result[path].shape if path in result else None
        if want != have:
            problems.append(f"{path}: expected {want or 'no such parameter'}, found {have or 'nothing'}")
    if problems:
        raise ConversionError("weights do not fit:\n  " + "\n  ".join(problems))
    return result


def _stacked(path, layers, problems):
    """Layers on a leading axis, as far as their shapes allow."""
    if sorted(layers) != list(range(len(layers))):
        problems.append(f"{path}: layers {sorted(layers)}, expected 0..{len(layers) - 1}")
    shapes = {array.shape for array in layers.values()}
    if len(shapes) > 1:
        problems.append(f"{path}: layers of different shapes {sorted(map(list, shapes))}")
        return next(iter(layers.values()))
    return np.stack([layers[index] for index in sorted(layers)])
