"""Recorded episodes (one .npz each) as RLDS on disk.

A file holds the arrays of an episode as `episodes` names them; in place of "instruction" it has
"instructions" (ways to say the task, the first the usual one), and "task", "seed" and "success". Each episode
is told by one of its instructions, in turn, as `language_instruction`; all stand in its metadata. Files are
read without pickle.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.builders import episodes as episodes_lib
from data_pipelines.builders.episodes import dataset_folder
from data_pipelines.errors import DatasetError
from farsighted_jax.core.spec import DatasetSpec

__all__ = ["RECORDING", "dataset_folder", "write_dataset", "written_recipe"]

# How a dataset was recorded; the procedural ones have a `recipe.json` of another kind.
RECORDING = "recording.json"


def written_recipe(folder: str | os.PathLike) -> dict[str, Any] | None:
    """How a finished dataset was made, or None where there is none."""
    path = Path(folder) / RECORDING
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_dataset(
    directory: str | os.PathLike,
    spec: DatasetSpec,
    episodes: Mapping[str, Sequence[Path]],
    recipe: Mapping[str, Any],
    file_format: str = "array_record",
) -> Path:
    """Writes `<directory>/<spec.name>/1.0.0` with its specification and recipe beside the records.

    Args:
      directory: folder of datasets.
      spec: what the numbers mean; without `action`, none are written.
      episodes: split -> episode files in their order; at least one each.
      recipe: how the episodes were made, as JSON.
      file_format: see `episodes.write_dataset`.

    Returns:
      The version folder.

    Raises:
      DatasetError: as `episodes.write_dataset`; it names the file.
    """

    def reader(paths):
        return lambda: (_read(path, spec, index) for index, path in enumerate(paths))

    metadata = {
        "task": tfds.features.Text(),
        "instructions": tfds.features.Sequence(tfds.features.Text()),
        "seed": tfds.features.Scalar(dtype=np.int64),
        "success": tfds.features.Scalar(dtype=np.bool_),
    }
    return episodes_lib.write_dataset(
        directory,
        dataclasses.replace(spec, paraphrases="instructions" if spec.language_key else ""),
        {split: reader(paths) for split, paths in episodes.items()},
        metadata=metadata,
        description=f"Recorded episodes of {spec.name!r}; {RECORDING} says how.",
        documents={RECORDING: recipe},
        file_format=file_format,
    )


def _read(path: Path, spec: DatasetSpec, index: int) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        episode: dict[str, Any] = {key: file[key] for key in file.files}
    wanted = {"instructions", "task", "seed", "success"} | episodes_lib.needed(spec) - {"instruction"}
    if missing := sorted(wanted - episode.keys()):
        raise DatasetError(f"episode {path}: {missing} missing; it has {sorted(episode)}")
    instructions = [str(text) for text in episode["instructions"]]
    episode["instruction"] = instructions[index % len(instructions)]
    episode["metadata"] = {
        "task": str(episode["task"]),
        "instructions": instructions,
        "seed": int(episode["seed"]),
        "success": bool(episode["success"]),
    }
    episodes_lib.check_episode(episode, spec, f"episode {path}")
    return episode
