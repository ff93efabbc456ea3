"""Datasets of every format behind one interface: found, opened and described by folder and name.

RLDS: NAME/VERSION/dataset_info.json. LeRobot: NAME/meta/info.json.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from data_pipelines import dataset_info, rlds
from data_pipelines.cache import is_remote
from data_pipelines.errors import DatasetError
from data_pipelines.lerobot import dataset as lerobot
from data_pipelines.lerobot.info import is_lerobot, read_info
from data_pipelines.split import EpisodeSplit
from farsighted_jax.core.spec import DatasetSpec


class Place(NamedTuple):
    """Where a dataset lies: folder of datasets, its name there, its version or None for the newest."""

    directory: str
    name: str
    version: str | None = None


def open_split(directory: str | os.PathLike, name: str, split: str, **options) -> EpisodeSplit:
    """Opens a split; arguments, result and errors as those of `rlds.open_split`."""
    return _format(directory, name).open_split(directory, name, split, **options)


def spec_of(directory: str | os.PathLike, name: str) -> DatasetSpec:
    """The meaning of a dataset's features, as `open_split` takes it; see `rlds.spec_of`."""
    return _format(directory, name).spec_of(directory, name)


def split_names(place: Place) -> list[str]:
    """Splits that a dataset declares; DatasetError if it cannot say them."""
    if _format(place.directory, place.name) is lerobot:
        return list(read_info(Path(place.directory) / place.name).splits)
    return dataset_info.split_names(dataset_info.version_folder(*place))


def find_datasets(path: str | os.PathLike) -> list[Place]:
    """Datasets at a path: a version's folder, a dataset's, or a folder of datasets.

    Raises:
      DatasetError: none; says what was looked for and what is there.
    """
    if is_remote(path):
        raise DatasetError(f"{path}: datasets are looked for in local folders; copy it first")
    folder = Path(path).resolve()
    if (folder / "dataset_info.json").is_file():
        return [Place(str(folder.parent.parent), folder.parent.name, folder.name)]
    if _is_dataset(folder):
        return [Place(str(folder.parent), folder.name)]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [Place(str(folder), child.name) for child in inside if _is_dataset(child)]
    if not found:
        raise DatasetError(
            f"{folder}: no dataset; expected NAME/VERSION/dataset_info.json (RLDS) or NAME/meta/info.json "
            f"(LeRobot) below it, found {[child.name for child in inside][:20]}"
        )
    return found


def _format(directory, name):
    """The module that reads a dataset; of one that is not there, the one whose error says so."""
    if not is_remote(directory) and is_lerobot(Path(directory) / name):
        return lerobot
    return rlds


def _is_dataset(folder):
    return folder.is_dir() and (is_lerobot(folder) or any(folder.glob("*/dataset_info.json")))
