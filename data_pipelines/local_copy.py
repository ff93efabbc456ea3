"""Local copies of remote record files, for a format that can only be read from disk."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Sequence
from concurrent import futures
from pathlib import Path

from data_pipelines import cache, remote
from data_pipelines.errors import DatasetError, RemoteError

PART_BYTES = 2**23
_THREADS = 8


def local_folder(folder: str, names: Sequence[str], cache_dir: str | os.PathLike | None = None) -> str:
    """Copies files of a remote folder to the cache, unless they are there; goes on where it was cut off.

    Args:
      folder: a URI.
      names: of the files in it.
      cache_dir: see `cache.cache_path`.

    Returns:
      The folder of the copies.

    Raises:
      DatasetError: a file cannot be read, or its copy not be written.
    """
    place = cache.cache_path(folder, "records", cache_dir)
    place.mkdir(parents=True, exist_ok=True)
    with futures.ThreadPoolExecutor(_THREADS) as pool:
        list(pool.map(lambda name: _copy(os.path.join(folder, name), place / name), names))
    return str(place)


def _copy(uri: str, target: Path) -> None:
    try:
        size, time = remote.size_and_time(uri)
        if _is_copy(target, size, time):
            return
        # Named after what it is a part of: of a file that has changed, nothing is used.
        part = target.with_name(f"{target.name}.{size}-{time}.part")
        source = remote.open_file(uri)
        with open(part, "ab") as file:
            # Two processes of one machine may want it.
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_copy(target, size, time):
                return
            while (offset := file.tell()) < size:
                data = source.read_at(offset, min(PART_BYTES, size - offset))
                if not data:
                    raise RemoteError(f"{uri}: ends at byte {offset}, expected {size} bytes")
                file.write(data)
            file.flush()
            os.utime(part, ns=(time, time))
            os.replace(part, target)
    except OSError as error:
        raise DatasetError(f"{uri}: cannot be copied to {target}: {error}") from error


def _is_copy(target, size, time):
    return target.exists() and (target.stat().st_size, target.stat().st_mtime_ns) == (size, time)
