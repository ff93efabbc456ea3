"""The cached record index of a split: one scan a file, repeated only where a file changed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent import futures

import numpy as np
from etils import epath

from data_pipelines import cache, records
from data_pipelines.errors import DatasetError

_LAYOUT = 1
_SCAN_THREADS = 16


def load_or_build(
    folder: str,
    split: str,
    names: Sequence[str],
    file_format: str,
    cache_dir: str | os.PathLike | None = None,
) -> tuple[list[records.ShardIndex], list[tuple[int, int]]]:
    """Indexes of the files `names` in `folder`, from the cache where sizes and times agree.

    A cache that cannot be written is no error: the index is then rebuilt at the next start.

    Args:
      folder: dataset folder, local or a URI.
      split: split name, part of the cache file's name.
      names: file names in order.
      file_format: one word of `records.FORMATS`.
      cache_dir: see `cache.cache_path`.

    Returns:
      indexes: one a file.
      stats: (size in bytes, modification time in ns) of each file.

    Raises:
      DatasetError: a file cannot be opened or read.
    """
    paths = [os.path.join(folder, name) for name in names]
    stats = [_size_and_time(path) for path in paths]
    place = cache.cache_path(folder, f"{split}-index.npz", cache_dir)
    known = _load(place)
    stale = [
        i
        for i, (name, stat) in enumerate(zip(names, stats, strict=True))
        if known.get(name, (None,))[0] != stat
    ]
    indexes = [known[name][1] if name in known else None for name in names]
    if stale:
        with futures.ThreadPoolExecutor(min(_SCAN_THREADS, len(stale))) as pool:
            fresh = pool.map(lambda i: records.scan(paths[i], file_format), stale)
            for i, index in zip(stale, fresh, strict=True):
                indexes[i] = index
        _save(place, names, stats, indexes)
    return indexes, stats


def _size_and_time(path):
    try:
        if cache.is_remote(path):
            stat = epath.Path(path).stat()
            return int(stat.length), int(float(stat.mtime or 0) * 1e9)
        stat = os.stat(path)
    except OSError as error:
        raise DatasetError(f"{path}: cannot be opened: {error}") from error
    return stat.st_size, stat.st_mtime_ns


def _load(place):
    stored = cache.read_arrays(place)
    if stored is None or int(stored.get("layout", -1)) != _LAYOUT:
        return {}
    starts = np.concatenate([[0], np.cumsum(stored["stored_counts"])])
    known = {}
    for i, name in enumerate(stored["names"].tolist()):
        rows = slice(starts[i], starts[i + 1])
        index = records.ShardIndex(
            int(stored["counts"][i]),
            stored["offsets"][rows],
            stored["lengths"][rows],
            stored["checksums"][rows],
            str(stored["damage"][i]),
        )
        known[name] = ((int(stored["sizes"][i]), int(stored["times"][i])), index)
    return known


def _save(place, names, stats, indexes):
    arrays = {
        "layout": np.array(_LAYOUT),
        "names": np.array(names),
        "sizes": np.array([size for size, _ in stats], np.int64),
        "times": np.array([time for _, time in stats], np.int64),
        "counts": np.array([index.count for index in indexes], np.int64),
        "stored_counts": np.array([len(index.offsets) for index in indexes], np.int64),
        "damage": np.array([index.damage for index in indexes]),
        "offsets": np.concatenate([index.offsets for index in indexes]),
        "lengths": np.concatenate([index.lengths for index in indexes]),
        "checksums": np.concatenate([index.checksums for index in indexes]),
    }
    try:
        cache.write_arrays(place, arrays)
    except OSError:
        # A cache that cannot be written costs a scan at the next start, nothing else.
        pass
