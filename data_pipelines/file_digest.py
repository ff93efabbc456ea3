"""Digests of many large files from their sizes and ends, where parquet and mp4 keep what they hold where."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from data_pipelines import cache
from data_pipelines.errors import DatasetError

END_BYTES = 2**16
_THREADS = 16
_MAX_NAMED = 5


def end_digests(
    folder: str | os.PathLike, paths: Sequence[str], cache_dir: str | os.PathLike | None = None
) -> dict[str, str]:
    """Hex SHA-256 of size, first and last 64 KiB of each file, from the cache where size and time agree.

    A change in the middle of a file that changes neither its size nor its table
    of contents is not seen.

    Args:
      folder: of the dataset, local.
      paths: relative to it.
      cache_dir: see `cache.cache_path`.

    Raises:
      DatasetError: files are missing or cannot be read; names them.
    """
    folder = os.fspath(folder)
    stats, missing = {}, []
    for path in paths:
        try:
            stat = os.stat(os.path.join(folder, path))
            stats[path] = stat.st_size, stat.st_mtime_ns
        except OSError:
            missing.append(path)
    if missing:
        raise DatasetError(
            f"{folder}: {len(missing)} of {len(paths)} files that its tables name are missing: "
            f"{missing[:_MAX_NAMED]}"
        )
    place = cache.cache_path(folder, "files.npz", cache_dir)
    known = _known(cache.read_arrays(place))
    found = {path: known[path][1] for path in paths if path in known and known[path][0] == stats[path]}
    fresh = [path for path in paths if path not in found]
    if fresh:
        with futures.ThreadPoolExecutor(_THREADS) as pool:
            digests = pool.map(lambda path: _digest(os.path.join(folder, path), stats[path][0]), fresh)
            found |= dict(zip(fresh, digests, strict=True))
        _store(place, known | {path: (stats[path], found[path]) for path in paths})
    return {path: found[path] for path in paths}


def _digest(path, size):
    digest = hashlib.sha256(str(size).encode())
    try:
        with open(path, "rb") as file:
            digest.update(file.read(END_BYTES))
            if size > END_BYTES:
                file.seek(max(END_BYTES, size - END_BYTES))
                digest.update(file.read())
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    return digest.hexdigest()


def _known(arrays):
    if arrays is None or not {"paths", "sizes", "times", "digests"} <= arrays.keys():
        return {}
    stats = zip(arrays["sizes"].tolist(), arrays["times"].tolist(), strict=True)
    return dict(
        zip(arrays["paths"].tolist(), zip(stats, arrays["digests"].tolist(), strict=True), strict=True)
    )


def _store(place, known):
    stats = [stat for stat, _ in known.values()]
    arrays = {
        "paths": np.array(list(known), np.str_),
        "sizes": np.array([size for size, _ in stats], np.int64),
        "times": np.array([time for _, time in stats], np.int64),
        "digests": np.array([digest for _, digest in known.values()], np.str_),
    }
    try:
        cache.write_arrays(place, arrays)
    except OSError:
        # A cache that cannot be written costs time at the next start, nothing else.
        pass
