"""A table of LAM quality: one cell a seed, trained and evaluated from scratch, finished cells kept."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from farsighted_jax.bench.data import host
from farsighted_jax.checkpoint.manifest import write_atomically

CELL = "cell.json"


def run(
    config: ConfigDict,
    seeds: Sequence[int],
    out: str | Path,
    *,
    train: Callable[[ConfigDict, Path], Any],
    evaluate: Callable[[Path], dict[str, Any]],
) -> dict[str, Any]:
    """Fills the table and writes it to `out`/table.json.

    A cell is a run folder `out`/seed_<n>; one whose result stands there already
    is not run again, one that was cut off resumes.

    Args:
      config: of the runs; `seed` is replaced.
      seeds: one cell each.
      out: folder of the table.
      train: (configuration, run folder) -> anything; resumes.
      evaluate: run folder -> result of the evaluators.

    Returns:
      "cells": a row a seed; "median": of each column; "host": the machine.
    """
    out = Path(out)
    cells = [_cell(config, seed, out / f"seed_{seed}", train, evaluate) for seed in seeds]
    columns = [name for name in cells[0] if name != "seed"]
    table = {
        "cells": cells,
        "median": {name: _median([cell[name] for cell in cells]) for name in columns},
        "host": host(),
    }
    write_atomically(out / "table.json", json.dumps(table, indent=2) + "\n")
    return table


def _cell(config, seed, folder, train, evaluate):
    path = folder / CELL
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    config = config.copy_and_resolve_references()
    config.seed = seed
    begin = time.perf_counter()
    train(config, folder)
    trained = time.perf_counter()
    result = evaluate(folder)
    write_atomically(folder / "eval.json", json.dumps(result, indent=2) + "\n")
    row = {
        "seed": seed,
        **headline(result),
        "train_minutes": round((trained - begin) / 60, 2),
        "evaluate_minutes": round((time.perf_counter() - trained) / 60, 2),
    }
    write_atomically(path, json.dumps(row, indent=2) + "\n")
    return row


def headline(result: dict[str, Any]) -> dict[str, float | None]:
    """The few figures of an evaluation that a table shows: worst horizon of each margin and R2."""
    reconstruction, codebook = result["reconstruction"], result["codebook"]
    probe = next(iter(result["latent_probe"].values()))
    row = {
        "psnr_over_copy_db": _worst(reconstruction["psnr_over_copy"]),
        "psnr_over_shuffled_db": _worst(reconstruction["psnr_over_shuffled"]),
        "codebook_usage": round(codebook["usage"]["all"], 4),
    }
    for feature, by_horizon in probe["r2"].items():
        row[f"r2_{feature}"] = _worst({k: groups.get("translation") for k, groups in by_horizon.items()})
    return row


def _worst(by_horizon):
    known = [value for value in by_horizon.values() if value is not None]
    return round(min(known), 4) if known else None


def _median(values):
    known = [value for value in values if value is not None]
    return round(statistics.median(known), 4) if known else None
