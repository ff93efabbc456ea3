"""Weights of other implementations by a table of names that is strict both ways.

A rule maps one name of the source to one parameter path of ours. "{i}" in a
source name stands for the index of a layer; our layers are stacked on a
leading axis, so such a rule gathers all of them. A source name without a rule,
a path of ours that no rule fills and a shape that does not fit are errors, all
of them listed at once.
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


@dataclasses.dataclass(frozen=True)
class Rule:
    """One line of a table.

    Attributes:
      source: name in the source, "{i}" for a layer index.
      target: our parameter path.
      change: what is done to each array.
    """

    source: str
    target: str
    change: Callable[[np.ndarray], np.ndarray] = copied

    @property
    def pattern(self) -> re.Pattern[str]:
        """Regular expression that the whole source name must match."""
        return re.compile(re.escape(self.source).replace(r"\{i\}", r"(?P<i>\d+)"))


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
    for name, array in source.items():
        if any(re.search(pattern, name) for pattern in ignored):
            continue
        match = next(((rule, m) for rule in rules if (m := rule.pattern.fullmatch(name))), None)
        if match is None:
            problems.append(f"{name}: no rule for this name")
            continue
        rule, found = match
        layer = int(found["i"]) if "{i}" in rule.source else -1
        gathered.setdefault(rule.target, {})[layer] = rule.change(np.asarray(array))
    result = {}
    for path, layers in gathered.items():
        result[path] = layers[-1] if -1 in layers else _stacked(path, layers, problems)
    for path in sorted(expected.keys() | result.keys()):
        want, have = expected.get(path), result[path].shape if path in result else None
        if want != have:
            problems.append(f"{path}: expected {want or 'no such parameter'}, found {have or 'nothing'}")
    if problems:
        raise ConversionError("weights do not fit:\n  " + "\n  ".join(problems))
    return result


def _stacked(path, layers, problems):
    if sorted(layers) != list(range(len(layers))):
        problems.append(f"{path}: layers {sorted(layers)}, expected 0..{len(layers) - 1}")
    return np.stack([layers[index] for index in sorted(layers)])
