"""The cached record index of a split: one scan a file, repeated only where a file changed.

Files are scanned by threads, and what is found is stored again and again while
others are still being scanned: a process that is killed goes on from there.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from data_pipelines import cache, records, remote
from data_pipelines.errors import DatasetError

_LAYOUT = 1
_SCAN_THREADS = 16
_STORE_EVERY_S = 5.0


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
    with futures.ThreadPoolExecutor(_SCAN_THREADS) as pool:
        stats = list(pool.map(_size_and_time, paths))
    place = cache.cache_path(folder, f"{split}-index.npz", cache_dir)
    known = _load(place)
    stale = [
        i
        for i, (name, stat) in enumerate(zip(names, stats, strict=True))
        if known.get(name, (None,))[0] != stat
    ]
    indexes = [known[name][1] if name in known else None for name in names]
    if stale:
        for i in stale:
            indexes[i] = None
        _scan(paths, stale, file_format, indexes, lambda: _save(place, names, stats, indexes))
    return indexes, stats


def _scan(paths, stale, file_format, indexes, save):
    """Fills in the indexes of stale files, in the order in which their scans end."""
    pool = futures.ThreadPoolExecutor(min(_SCAN_THREADS, len(stale)))
    scans = {pool.submit(records.scan, paths[i], file_format): i for i in stale}
    saved = time.monotonic()
    try:
        for scan in futures.as_completed(scans):
            indexes[scans[scan]] = scan.result()
            if time.monotonic() - saved > _STORE_EVERY_S:
                save()
                saved = time.monotonic()
    finally:
        pool.shutdown(cancel_futures=True)
        save()


def _size_and_time(path):
    try:
        if cache.is_remote(path):
            return remote.size_and_time(path)
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
    known = [i for i, index in enumerate(indexes) if index is not None]
    names, stats, indexes = ([of[i] for i in known] for of in (names, stats, indexes))
    nothing = np.zeros(0, np.int64)
    arrays = {
        "layout": np.array(_LAYOUT),
        "names": np.array(names, np.str_),
        "sizes": np.array([size for size, _ in stats], np.int64),
        "times": np.array([time for _, time in stats], np.int64),
        "counts": np.array([index.count for index in indexes], np.int64),
        "stored_counts": np.array([len(index.offsets) for index in indexes], np.int64),
        "damage": np.array([index.damage for index in indexes], np.str_),
        "offsets": np.concatenate([nothing, *(index.offsets for index in indexes)]),
        "lengths": np.concatenate([nothing, *(index.lengths for index in indexes)]),
        "checksums": np.concatenate([nothing.astype(np.uint32), *(index.checksums for index in indexes)]),
    }
    try:
        cache.write_arrays(place, arrays)
    except OSError:
        # A cache that cannot be written costs a scan at the next start, nothing else.
        pass
