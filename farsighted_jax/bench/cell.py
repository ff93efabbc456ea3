"""One cell of a table: a configuration trained and evaluated in its own run folder, once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from farsighted_jax.bench.data import host
from farsighted_jax.checkpoint.manifest import write_atomically
from farsighted_jax.core import config as config_lib
from farsighted_jax.train.gate import CollapsedError
from farsighted_jax.train.guard import TrainingDivergedError
from farsighted_jax.train.resume import SAFE_KEYS

CELL = "cell.json"
# Results of an evaluation depend on these, a training does not; a mixture decides what is trained.
IGNORED = tuple(key for key in SAFE_KEYS if not key.startswith("eval.") and key != "data.mixture")


class StageError(RuntimeError):
    """A run that a cell was to start from collapsed or diverged; the message names it."""


# Ways for a training to end that say something about its configuration.
FAILURES = (CollapsedError, TrainingDivergedError, StageError)


def filled(
    config: ConfigDict,
    folder: Path,
    *,
    train: Callable[[ConfigDict, Path], Any],
    evaluate: Callable[[Path], dict[str, Any]],
) -> dict[str, Any]:
    """Trains and evaluates; what stands in the folder already is not done again.

    Args:
      config: of the run.
      folder: run folder; holds the document as cell.json.
      train: (configuration, run folder) -> anything; resumes what was cut off.
      evaluate: run folder -> result of the evaluators.

    Returns:
      "config"; "result", None where the training collapsed or diverged, which
      "error" then tells; "train_minutes", "train_cpu_minutes" (of all threads)
      and "evaluate_minutes" of the last attempt; "host".

    Raises:
      ConfigError: the folder holds a finished cell of another configuration.
    """
    path = folder / CELL
    if path.exists():
        cell = json.loads(path.read_text(encoding="utf-8"))
        before = config_lib.from_json(json.dumps(cell["config"]))
        changed = config_lib.difference(before, config, IGNORED)
        if changed:
            raise config_lib.ConfigError(
                f"{path} holds the result of another configuration: {'; '.join(changed)}; "
                "use another folder, or remove this one to run it anew"
            )
        return cell
    folder.mkdir(parents=True, exist_ok=True)
    begin, cpu = time.perf_counter(), time.process_time()
    error = result = None
    try:
        train(config, folder)
    except FAILURES as failure:
        error = f"{type(failure).__name__}: {failure}"
    trained = time.perf_counter()
    cpu = time.process_time() - cpu
    if error is None:
        result = evaluate(folder)
    cell = {
        "config": config.to_dict(),
        "result": result,
        "error": error,
        "train_minutes": round((trained - begin) / 60, 2),
        "train_cpu_minutes": round(cpu / 60, 2),
        "evaluate_minutes": round((time.perf_counter() - trained) / 60, 2),
        "host": host(),
    }
    write_atomically(path, json.dumps(cell, indent=2) + "\n")
    return cell
