"""Times of the frames of many films: each is decoded once, and again only where its file changed."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from concurrent import futures

import numpy as np

from data_pipelines import cache
from data_pipelines.video.film import Film, VideoError

_LAYOUT = 1
_THREADS = 4


@dataclasses.dataclass(frozen=True)
class FilmTimes:
    """What decoding a film found.

    Attributes:
      times: float64[L] seconds of each frame.
      rate: frames a second as the file says, 0 if it does not.
      damage: why it cannot be decoded, or "".
    """

    times: np.ndarray
    rate: float
    damage: str = ""


def film_times(
    folder: str | os.PathLike, paths: Sequence[str], cache_dir: str | os.PathLike | None = None
) -> dict[str, FilmTimes]:
    """Times of each film, from the cache where size and modification time agree.

    Args:
      folder: of the dataset, local.
      paths: films, relative to it.
      cache_dir: see `cache.cache_path`.
    """
    folder = os.fspath(folder)
    stats = {path: os.stat(os.path.join(folder, path)) for path in paths}
    stats = {path: (stat.st_size, stat.st_mtime_ns) for path, stat in stats.items()}
    place = cache.cache_path(folder, "films.npz", cache_dir)
    known = _known(cache.read_arrays(place))
    found = {path: known[path][1] for path in paths if path in known and known[path][0] == stats[path]}
    fresh = [path for path in paths if path not in found]
    if fresh:
        with futures.ThreadPoolExecutor(_THREADS) as pool:
            decoded = pool.map(lambda path: _decoded(os.path.join(folder, path)), fresh)
            found |= dict(zip(fresh, decoded, strict=True))
        _store(place, known | {path: (stats[path], found[path]) for path in paths})
    return {path: found[path] for path in paths}


def _decoded(path):
    try:
        film = Film(path)
        times = film.times()
    except VideoError as error:
        return FilmTimes(np.zeros(0), 0.0, str(error))
    damage = "" if len(times) else f"{path}: no frame can be decoded, expected a video file"
    return FilmTimes(times, film.rate, damage)


def _known(arrays):
    if arrays is None or int(arrays.get("layout", -1)) != _LAYOUT:
        return {}
    ends = np.cumsum(arrays["counts"])
    known = {}
    for i, path in enumerate(arrays["paths"].tolist()):
        times = arrays["times"][ends[i] - arrays["counts"][i] : ends[i]]
        found = FilmTimes(times, float(arrays["rates"][i]), str(arrays["damage"][i]))
        known[path] = ((int(arrays["sizes"][i]), int(arrays["modified"][i])), found)
    return known


def _store(place, known):
    stats, films = zip(*known.values(), strict=True)
    arrays = {
        "layout": np.array(_LAYOUT),
        "paths": np.array(list(known)),
        "sizes": np.array([size for size, _ in stats], np.int64),
        "modified": np.array([time for _, time in stats], np.int64),
        "counts": np.array([len(film.times) for film in films], np.int64),
        "times": np.concatenate([film.times for film in films]),
        "rates": np.array([film.rate for film in films]),
        "damage": np.array([film.damage for film in films]),
    }
    try:
        cache.write_arrays(place, arrays)
    except OSError:
        # A cache that cannot be written costs a pass over the films at the next start, nothing else.
        pass
