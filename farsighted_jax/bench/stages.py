"""Runs that the cells of a table start from: trained once, shared by all that would train the same.

A comparison names them in STAGES: configuration key -> function of a cell's
configuration, which gives the configuration of the run that the key is to name,
or None where the cell starts from no such run. The functions are called in
order, each with the keys before it filled in, so that one stage may start from
another. A section `stages` of the configuration is theirs and no part of the
cell's own: it matters only through the runs that the cell starts from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from farsighted_jax.bench import cell
from farsighted_jax.core import config as config_lib

Stages = Mapping[str, Callable[[ConfigDict], ConfigDict | None]]


def planned(config: ConfigDict, stages: Stages, folder: Path) -> tuple[ConfigDict, dict[Path, ConfigDict]]:
    """Decides where each stage of a cell lies; computes nothing.

    Args:
      config: of the cell, with its seed.
      stages: see the module.
      folder: of all stages of the table.

    Returns:
      The configuration with the stages' run folders filled in, and these folders with their
      configurations, in the order in which they are to be trained.
    """
    config, runs = config.copy_and_resolve_references(), {}
    for key, stage_of in stages.items():
        stage = stage_of(config)
        if stage is None:
            continue
        stage.seed = config.seed
        place = folder / f"{key}-{digest(stage, stages)}"
        config_lib.assign(config, key, str(place))
        runs[place] = stage
    if "stages" in config:
        with config.unlocked():
            del config["stages"]
    return config, runs


def filled(runs: Mapping[Path, ConfigDict], train: Callable[[ConfigDict, Path], Any]) -> dict[str, Any]:
    """Trains the stages that are not done yet.

    Args:
      runs: of `planned`.
      train: see `cell.filled`.

    Returns:
      Name of each stage -> its cell, up to the first that failed, whose "error" is set.
    """
    done = {}
    for place, config in runs.items():
        found = done[place.name] = cell.filled(config, place, train=train, evaluate=lambda _: {})
        if found["error"]:
            break
    return done


def following(
    done: Mapping[str, Any], train: Callable[[ConfigDict, Path], Any]
) -> Callable[[ConfigDict, Path], Any]:
    """`train` for a cell after its stages, `filled`: fails like the one of them that failed."""

    def fail(config, folder):
        del config, folder
        raise cell.StageError("; ".join(failed))

    failed = [f"stage {name}: {found['error']}" for name, found in done.items() if found["error"]]
    return fail if failed else train


def digest(config: ConfigDict, stages: Stages) -> str:
    """Of what decides a training; a stage before it counts by its own digest, wherever it lies.

    A key that has been added since, with the value that it stood for before, counts as absent. Nor does
    rematerialisation count, which changes what is kept in memory and no result.
    """
    added = [item for keys in config_lib.UNNAMED.values() for item in keys.items()]
    flat = {key: value for key, value in config_lib.flatten(config).items() if (key, value) not in added}
    named = {key: Path(value).name if key in stages else value for key, value in flat.items()}
    decisive = {key: value for key, value in named.items() if key not in cell.IGNORED}
    if "flow.num_steps" in flat:
        decisive["model.remat"] = False  # so policies had it before the key had names, in every kept table
    return hashlib.sha256(json.dumps(dict(sorted(decisive.items()))).encode()).hexdigest()[:12]
