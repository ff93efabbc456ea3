"""A table that compares variants of one configuration over seeds, filled cell by cell.

A comparison is a configuration file that also says

  VARIANTS  name -> {dotted key: value}, what each variant changes; `get_config(name)` is that variant.
  COLUMNS   name -> column, see `bench.columns`.
  CURVES    (may be absent) title -> (path of x, path of y): panels of the figure.
  STAGES    (may be absent) configuration key -> run that it is to name, see `bench.stages`.
  claim     (may be absent) function of {variant: {column: value}} -> bool; its
            docstring is the claim in words.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from farsighted_jax.bench import cell, columns, stages, table_text
from farsighted_jax.checkpoint.manifest import write_atomically
from farsighted_jax.core import config as config_lib

Rows = Mapping[str, Mapping[str, float | None]]

# Columns that every table ends with: what its cells cost.
COSTS = ("train_minutes", "train_cpu_minutes", "evaluate_minutes")
# Likewise, with stages: processor time of all that a cell starts from, whoever else does.
STAGES_COST = "stages_cpu_minutes"

# What the codes of a latent action model are worth: the worst horizon of each.
LAM_COLUMNS: dict[str, columns.Column] = {
    "psnr_over_copy_db": "min reconstruction/psnr_over_copy/*",
    "psnr_over_shuffled_db": "min reconstruction/psnr_over_shuffled/*",
    "codebook_usage": "codebook/usage/all",
    **{
        f"r2_{feature}": f"min latent_probe/*/r2/{feature}/*/translation"
        for feature in ("quantized", "encoded", "one_hot", "shuffled", "frame0", "two_frames")
    },
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is compared and what is told of it.

    Attributes:
      variants: name -> configuration; `seed` is replaced.
      columns: name -> column.
      curves: title -> (path of x, path of y).
      claim: rows of one seed, or the medians -> whether it holds.
      stages: configuration key -> function, see `bench.stages`.
    """

    variants: Mapping[str, ConfigDict]
    columns: Mapping[str, columns.Column]
    curves: Mapping[str, tuple[str, str]] = dataclasses.field(default_factory=dict)
    claim: Callable[[Rows], bool] | None = None
    stages: stages.Stages = dataclasses.field(default_factory=dict)

    @property
    def costs(self) -> tuple[str, ...]:
        """Columns that the table ends with."""
        return (*COSTS, STAGES_COST) if self.stages else COSTS


def read(reference: str, overrides: Iterable[str] = (), only: Sequence[str] = ()) -> Comparison:
    """Reads a comparison from its file.

    Args:
      reference: path of the file.
      overrides: `key=value` for every variant; they win over what a variant changes.
      only: variants to run, all by default.

    Raises:
      ConfigError: no such file or none of a comparison, an unknown key of a
        variant or in the overrides (with the nearest valid one), an unknown variant.
    """
    path, overrides = reference.partition(":")[0], list(overrides)
    names = {"VARIANTS", "COLUMNS"}
    namespace = config_lib.names_of(path)
    if not names <= namespace.keys():
        missing = sorted(names - namespace.keys())
        raise config_lib.ConfigError(f"{path!r} is no comparison: it does not define {missing}")
    for name in only:
        config_lib.check_choice("--variants", name, namespace["VARIANTS"])
    chosen = [name for name in namespace["VARIANTS"] if not only or name in only]
    return Comparison(
        {name: config_lib.load(f"{path}:{name}", overrides) for name in chosen},
        namespace["COLUMNS"],
        namespace.get("CURVES", {}),
        # A claim is about all variants.
        None if only else namespace.get("claim"),
        namespace.get("STAGES", {}),
    )


def run(
    comparison: Comparison,
    seeds: Sequence[int],
    out: str | Path,
    *,
    train: Callable[[ConfigDict, Path], Any],
    evaluate: Callable[[Path], dict[str, Any]],
    known: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Fills the table; `out` gets table.json and table.md anew after every cell.

    Cells are run folders `out`/<variant>/seed_<n>, what they start from lies in
    `out`/stages. All variants of a seed come before the next seed. A finished
    cell or stage is not run again, one that was cut off resumes.

    Args:
      comparison: see there.
      seeds: a cell each for every variant.
      out: folder of the table.
      train: see `cell.filled`.
      evaluate: see `cell.filled`.
      known: an earlier table, whose cells of the same configuration and names of columns are taken as
        they are.

    Returns:
      The table, see `table_of`.
    """
    out, cells = Path(out), {}
    out.mkdir(parents=True, exist_ok=True)
    known_cells = _cells_of(known) if known else {}
    for seed in seeds:
        for name, config in comparison.variants.items():
            config = config.copy_and_resolve_references()
            config.seed = seed
            config, runs = stages.planned(config, comparison.stages, out / "stages")
            digest = stages.digest(config, comparison.stages)
            cells[name, seed] = known_cells.get((name, seed, digest))
            if cells[name, seed] is None or set(comparison.columns) - cells[name, seed].row.keys():
                before = stages.filled(runs, train)
                after = stages.following(before, train)
                found = cell.filled(config, out / name / f"seed_{seed}", train=after, evaluate=evaluate)
                spent = sum(stage["train_cpu_minutes"] for stage in before.values())
                found = {**found, STAGES_COST: round(spent, 2), "digest": digest}
                cells[name, seed] = _cell(comparison, name, seed, found)
            table = table_of(comparison, cells)
            write_atomically(out / "table.json", json.dumps(table, indent=2) + "\n")
            write_atomically(out / "table.md", table_text.markdown(table))
    return table


@dataclasses.dataclass(frozen=True)
class Cell:
    """What the table has of a cell.

    Attributes:
      row: see `table_of`.
      curves: title -> [[x, y], ...].
      hosts: the machines.
    """

    row: dict[str, Any]
    curves: Mapping[str, list[list[float]]]
    hosts: Sequence[Mapping[str, Any]]


def table_of(comparison: Comparison, cells: Mapping[tuple[str, int], Cell]) -> dict[str, Any]:
    """The table of the cells so far.

    Returns:
      "cells": a row a cell, with "variant", "seed", every column and the costs, "digest" of its
      configuration, and "error" if its training failed; "median": variant -> column -> value;
      "curves": title -> variant -> seed -> [[x, y], ...]; "claim": "text",
      "seeds" and "median" with True, False, or None where a figure is missing;
      "hosts": the machines.
    """
    rows = [found.row for found in cells.values()]
    names = [*comparison.columns, *comparison.costs]
    median = {
        variant: {name: _median(row[name] for row in rows if row["variant"] == variant) for name in names}
        for variant in dict.fromkeys(row["variant"] for row in rows)
    }
    hosts: list[Any] = []
    curves: dict[str, Any] = {}
    for (variant, seed), found in cells.items():
        hosts += [machine for machine in found.hosts if machine not in hosts]
        for title, points in found.curves.items():
            curves.setdefault(title, {}).setdefault(variant, {})[str(seed)] = points
    table = {"cells": rows, "median": median, "curves": curves, "hosts": hosts}
    if comparison.claim:
        by_seed: dict[int, dict] = {}
        for row in rows:
            by_seed.setdefault(row["seed"], {})[row["variant"]] = row
        table["claim"] = {
            "text": " ".join((comparison.claim.__doc__ or "").split()),
            "seeds": {str(seed): _holds(comparison, found) for seed, found in by_seed.items()},
            "median": _holds(comparison, median),
        }
    return table


def _cell(comparison, variant, seed, found):
    machine = {name: value for name, value in found["host"].items() if name != "load_1min"}
    curves = {} if found["result"] is None else _curves(comparison.curves, found["result"])
    return Cell(_row(comparison, variant, seed, found), curves, [machine])


def _cells_of(table):
    """Cells of a table by variant, seed and digest."""
    cells = {}
    for row in table["cells"]:
        variant, seed = row["variant"], row["seed"]
        drawn = {
            title: of[variant][str(seed)]
            for title, of in table["curves"].items()
            if str(seed) in of.get(variant, {})
        }
        cells[variant, seed, row.get("digest")] = Cell(row, drawn, table["hosts"])
    return cells


def _row(comparison, variant, seed, found):
    row = {"variant": variant, "seed": seed}
    for name, column in comparison.columns.items():
        number = None if found["result"] is None else columns.value(found["result"], column)
        row[name] = None if number is None else round(number, 4)
    row |= {name: found[name] for name in (*comparison.costs, "digest")}
    return row | ({"error": found["error"]} if found["error"] else {})


def _curves(curves, result):
    drawn = {}
    for title, paths in curves.items():
        x, y = (columns.found(result, path) for path in paths)
        drawn[title] = [[x[key], y[key]] for key in x if x[key] is not None and y.get(key) is not None]
    return drawn


def _holds(comparison, rows):
    """None until every variant is there with every figure that the claim reads."""
    if comparison.variants.keys() - rows.keys():
        return None
    try:
        return bool(comparison.claim(rows))
    except TypeError:  # a comparison with None: a figure that an evaluator could not give
        return None


def _median(values):
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None
