"""RLDS datasets on disk or behind a URI: open a split, check it, read its episodes.

Nothing here imports TensorFlow or runs code that a dataset names: the folder's
own builder is never looked for. Of a dataset behind a URI, TFRecord is read by
ranges and ArrayRecord from a copy in the cache. http:// and https:// need nothing;
other URIs go through etils.epath, which reads gs:// with fsspec (install gcsfs);
where TensorFlow happens to be installed, epath prefers it unless the environment
says EPATH_USE_TF=false.
"""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np

from data_pipelines import dataset_info, record_index
from data_pipelines.cache import is_remote
from data_pipelines.episode import Episode, EpisodeParser
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.features import check_spec, load_features
from data_pipelines.local_copy import local_folder
from data_pipelines.oxe import registry
from data_pipelines.records import RecordFiles
from data_pipelines.split import EpisodeSplit
from data_pipelines.stored_spec import stored_spec
from farsighted_jax.core import spec as spec_lib


def open_split(
    directory: str | os.PathLike,
    name: str,
    split: str,
    *,
    spec: spec_lib.DatasetSpec | None = None,
    version: str | None = None,
    on_corrupt: str = "strict",
    cache_dir: str | os.PathLike | None = None,
) -> RldsSplit:
    """Opens a split of an RLDS dataset and checks its files and features.

    Args:
      directory: folder of datasets, local or a URI such as gs://bucket/folder or https://host/folder,
        whose server must list folders and honour ranges.
      name: dataset name, the folder below `directory`.
      split: a split that the dataset has, or a slice of one by episodes:
        "train[:90%]", "train[90%:]", "train[:5]".
      spec: meaning of the features as they are stored; by default
        dataset_spec.json beside dataset_info.json, else the registry's block,
        which may say too how they become actions and state.
      version: e.g. "1.0.0"; the newest if None.
      on_corrupt: "strict" raises at the first damaged record; "skip" leaves it
        out and counts it, up to `split.MAX_SKIPPED` of the split.
      cache_dir: where derived files go, see `cache.cache_path`.

    Raises:
      DatasetError: unknown dataset, version, split or specification; files that
        do not agree with dataset_info.json (the shard is named); a feature that
        is missing or not as the specification says.
      RecordError: a damaged file, with on_corrupt="strict".
    """
    base, bounds = dataset_info.split_range(split)
    folder = dataset_info.version_folder(os.fspath(directory), name, version)
    files = dataset_info.split_files(folder, base)
    features_text = dataset_info.read_text(folder, "features.json")
    features = load_features(features_text, os.path.join(folder, "features.json"))
    spec, recipe = spec or stored_spec(folder), None
    if spec is None:
        spec, recipe = registry.spec_for(name), registry.recipe_for(name, os.path.basename(folder))
    check_spec(features, spec, name, recipe)
    place = folder
    if is_remote(folder) and files.file_format == "array_record":
        place = local_folder(folder, files.names, cache_dir)
    indexes, stats = record_index.load_or_build(place, base, files.names, files.file_format, cache_dir)
    _check_counts(folder, files, indexes, on_corrupt)
    paths = [os.path.join(place, shard) for shard in files.names]
    return RldsSplit(
        spec=spec,
        name=name,
        split=split,
        directory=folder,
        records=RecordFiles(paths, indexes, files.counts, files.file_format),
        parser=EpisodeParser(features, spec, recipe),
        episodes=dataset_info.resolve_range(split, bounds, sum(files.counts)),
        on_corrupt=on_corrupt,
        content=_content(name, files, indexes, stats, features_text),
    )


def spec_of(directory: str | os.PathLike, name: str) -> spec_lib.DatasetSpec:
    """The meaning of a dataset's features, as `open_split` takes it; a registered one need not be there.

    Raises:
      DatasetError: no such dataset or specification.
    """
    try:
        folder = dataset_info.version_folder(os.fspath(directory), name, None)
    except DatasetError:
        if name in registry.SPECS:
            return registry.spec_for(name)
        raise
    return stored_spec(folder) or registry.spec_for(name)


class RldsSplit(EpisodeSplit):
    """The episodes of a split of record files."""

    def __init__(self, *, spec, name, split, directory, records, parser, episodes, on_corrupt, content):
        """Use `open_split`."""
        meaning = [json.dumps(spec_lib.to_dict(spec), sort_keys=True)]
        if parser.recipe:
            meaning.append(parser.recipe.identity)
        super().__init__(
            spec=spec,
            name=name,
            split=split,
            directory=directory,
            version=os.path.basename(directory),
            episodes=episodes,
            num_whole=len(records),
            on_corrupt=on_corrupt,
            content=(content, *meaning),
        )
        self._records, self._parser = records, parser

    def _read(self, number):
        place = self._records.place(self.first_episode + number)
        try:
            record = self._records.read(self.first_episode + number)
        except RecordError as error:
            raise error.within(f"dataset {self.name!r}, episode {number}") from error
        return Episode(self._parser, record, number, place)


def _check_counts(folder, files, indexes, on_corrupt):
    for shard, count, index in zip(files.names, files.counts, indexes, strict=True):
        path = os.path.join(folder, shard)
        if index.damage and on_corrupt == "strict":
            raise RecordError(path, index.count, index.damage)
        if index.count > count or (index.count < count and not index.damage):
            raise DatasetError(f"{path}: {index.count} records, expected {count} as in dataset_info.json")


def _content(name, files, indexes, stats, features_text):
    digest = hashlib.sha256()
    digest.update(json.dumps([name, files.names, files.counts, files.file_format, features_text]).encode())
    for index, (size, _) in zip(indexes, stats, strict=True):
        digest.update(json.dumps([size, index.count, index.damage]).encode())
        for array in (index.offsets, index.lengths, index.checksums):
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
