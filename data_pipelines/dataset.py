"""Datasets of every format behind one interface: found, opened and described by folder and name.

RLDS: NAME/VERSION/dataset_info.json. LeRobot: NAME/meta/info.json. Videos: films or folders of
pictures in NAME, or in NAME/train and its like.
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
from data_pipelines.video import dataset as video
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
    folder, kind = Path(place.directory) / place.name, _format(place.directory, place.name)
    if kind is lerobot:
        return list(read_info(folder).splits)
    if kind is video:
        return video.split_names(folder)
    return dataset_info.split_names(dataset_info.version_folder(*place))


def find_datasets(path: str | os.PathLike) -> list[Place]:
    """Datasets at a path: a version's folder, a dataset's, or a folder of datasets.

    Raises:
      DatasetError: none; says what was looked for and what is there.
    """
    if is_remote(path):
        raise DatasetError(f"{path}: expected a local folder; copy the dataset first: farsighted data mirror")
    folder = Path(path).resolve()
    if (folder / "dataset_info.json").is_file():
        return [Place(str(folder.parent.parent), folder.parent.name, folder.name)]
    inside = sorted(folder.iterdir()) if folder.is_dir() else []
    found = [Place(str(folder), child.name) for child in inside if _has_tables(child)]
    # A folder of datasets may hold a film, too; videos are one dataset where no other is.
    if _has_tables(folder) or (not found and video.is_videos(folder)):
        return [Place(str(folder.parent), folder.name)]
    found += [Place(str(folder), c.name) for c in inside if not _has_tables(c) and video.is_videos(c)]
    if not found:
        raise DatasetError(
            f"{folder}: no dataset; expected NAME/VERSION/dataset_info.json (RLDS), NAME/meta/info.json "
            f"(LeRobot) or videos below it, found {[child.name for child in inside][:20]}"
        )
    return sorted(found)


def _format(directory, name):
    """The module that reads a dataset; of one that is not there, the one whose error says so."""
    folder = Path(directory) / name
    if is_remote(directory) or _has_rlds(folder):
        return rlds
    if is_lerobot(folder):
        return lerobot
    return video if video.is_videos(folder) else rlds


def _has_tables(folder):
    return folder.is_dir() and (is_lerobot(folder) or _has_rlds(folder))


def _has_rlds(folder):
    return any(folder.glob("*/dataset_info.json"))
