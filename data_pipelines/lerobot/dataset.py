"""LeRobot datasets: open a split, check it, read its episodes."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from data_pipelines import dataset_info
from data_pipelines.errors import DatasetError
from data_pipelines.file_digest import end_digests
from data_pipelines.lerobot.episode import LeRobotEpisode, Shelf
from data_pipelines.lerobot.index import meta_files, read_index, read_tasks
from data_pipelines.lerobot.info import Info, read_info
from data_pipelines.lerobot.rows import RowReader
from data_pipelines.lerobot.spec import Derived, check_spec, derived_spec
from data_pipelines.split import EpisodeSplit
from data_pipelines.stored_spec import stored_spec
from data_pipelines.video.film import FilmPool
from farsighted_jax.core.spec import DatasetSpec, to_dict


def open_split(
    directory: str | os.PathLike,
    name: str,
    split: str,
    *,
    spec: DatasetSpec | None = None,
    version: str | None = None,
    on_corrupt: str = "strict",
    cache_dir: str | os.PathLike | None = None,
) -> LeRobotSplit:
    """Opens a split of a LeRobot dataset and checks its tables, files and features.

    Args:
      directory: local folder of datasets.
      name: dataset name, the folder below `directory`.
      split: a split that meta/info.json declares, or a slice of one by episodes, see `rlds.open_split`.
      spec: meaning of the features; by default dataset_spec.json in the dataset's folder, else what
        meta/info.json allows, see `LeRobotSplit.assumed`.
      version: codebase_version that it must have.
      on_corrupt: "strict" raises at the first damaged episode; "skip" leaves it out and counts it.
      cache_dir: where derived files go, see `cache.cache_path`.

    Raises:
      DatasetError: unknown codebase_version, split or feature; tables that do not agree; missing files.
    """
    folder = os.path.join(os.fspath(directory), name)
    info = read_info(folder)
    if version not in (None, info.version):
        raise DatasetError(
            f"dataset {name!r}: expected version {version!r} in {folder!r}, found {info.version!r}"
        )
    base, bounds = dataset_info.split_range(split)
    if base not in info.splits:
        raise DatasetError(
            f"{folder}: no split {base!r}; it has {sorted(info.splits)} (a slice as train[90%:] works too)"
        )
    derived = _meaning(info, name, spec)
    check_spec(info, derived.spec)
    places = read_index(info)
    first, end = info.splits[base]
    episodes = dataset_info.resolve_range(split, bounds, end - first)
    shelf = Shelf(info, derived.spec, read_tasks(info), RowReader(folder), FilmPool())
    return LeRobotSplit(
        shelf,
        places[first:end],
        name=name,
        split=split,
        episodes=episodes,
        on_corrupt=on_corrupt,
        content=(base, _content(info, places, cache_dir)),
        assumed=derived.assumed,
    )


def spec_of(directory: str | os.PathLike, name: str) -> DatasetSpec:
    """The meaning of a dataset's features, as `open_split` takes it; DatasetError as there."""
    return _meaning(read_info(os.path.join(os.fspath(directory), name)), name, None).spec


class LeRobotSplit(EpisodeSplit):
    """The episodes of a split of a LeRobot dataset."""

    def __init__(self, shelf, places, *, name, split, episodes, on_corrupt, content, assumed):
        """Use `open_split`."""
        super().__init__(
            spec=shelf.spec,
            name=name,
            split=split,
            directory=shelf.info.folder,
            version=shelf.info.version,
            episodes=episodes,
            num_whole=len(places),
            on_corrupt=on_corrupt,
            content=(*content, json.dumps(to_dict(shelf.spec), sort_keys=True)),
        )
        self.assumed = assumed
        self._shelf, self._places = shelf, places

    def _read(self, number):
        return LeRobotEpisode(self._shelf, self._places[self.first_episode + number], number)


def _meaning(info: Info, name, spec):
    spec = spec or stored_spec(info.folder)
    return Derived(spec, "") if spec else derived_spec(info, name)


def _content(info, places, cache_dir):
    """A digest of all that the episodes are read from."""
    files = {place.data: None for place in places}
    for place in places:
        files |= {film: None for film, _ in place.films.values()}
    digests = end_digests(info.folder, list(files), cache_dir)
    tables = {
        name: hashlib.sha256((Path(info.folder) / name).read_bytes()).hexdigest() for name in meta_files(info)
    }
    return hashlib.sha256(json.dumps([tables, digests], sort_keys=True).encode()).hexdigest()
