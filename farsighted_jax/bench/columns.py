"""Columns of a table: paths into the results of the evaluators.

A column is "PATH", keys with "/" between; or "min PATH", "max PATH" or "mean
PATH" where "*" in the path stands for every key; or a pair of columns, whose
difference it is.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import Any

from farsighted_jax.core.config import ConfigError, nearest

Column = str | tuple[str, str]

REDUCTIONS = {"min": min, "max": max, "mean": statistics.fmean}
ANY = "*"


def found(result: Mapping[str, Any], path: str) -> dict[tuple[str, ...], float | None]:
    """Every value that a path names, by the keys that stand for its "*".

    Raises:
      ConfigError: a key that is not there; names it, the path and the nearest one that is.
    """
    places: dict[tuple[str, ...], Any] = {(): result}
    for key in path.split("/"):
        after = {}
        for stars, node in places.items():
            if not isinstance(node, Mapping) or (key != ANY and key not in node):
                known = sorted(map(str, node)) if isinstance(node, Mapping) else []
                raise ConfigError(
                    f"column {path!r}: no {key!r} in the evaluators' result, which has {known} there"
                    f"{nearest(key, known)}"
                )
            after |= {(*stars, name): node[name] for name in node} if key == ANY else {stars: node[key]}
        places = after
    wrong = [value for value in places.values() if value is not None and not isinstance(value, int | float)]
    if wrong:
        raise ConfigError(f"column {path!r} does not end at a number; keys go on: {sorted(wrong[0])}")
    return places


def value(result: Mapping[str, Any], column: Column) -> float | None:
    """The value of a column; None where an evaluator had none.

    Raises:
      ConfigError: as `found`; or several values and no word that says which.
    """
    if isinstance(column, tuple):
        first, second = (value(result, part) for part in column)
        return None if first is None or second is None else first - second
    word, _, path = column.rpartition(" ")
    if word and word not in REDUCTIONS:
        raise ConfigError(f"column {column!r}: {word!r} is not one of {sorted(REDUCTIONS)}")
    values = list(found(result, path).values())
    if len(values) != 1 and not word:
        raise ConfigError(
            f"column {column!r} names {len(values)} values; expected one of {sorted(REDUCTIONS)} before it"
        )
    known = [number for number in values if number is not None]
    if not known:
        return None
    return REDUCTIONS[word](known) if word else known[0]
