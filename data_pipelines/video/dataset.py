"""A folder of films and of folders of pictures as a dataset: action-free episodes, one a video.

The videos stand in the dataset's folder, or below it in `train`, `val` and `test`. A text
file of the same name beside a video holds its instruction, or several that say the same, one
a line. Films are read at the dataset's rate, each step the frame nearest in time; pictures are
taken to have that rate.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines import dataset_info
from data_pipelines.errors import DatasetError, RecordError, VideoFrameError
from data_pipelines.file_digest import end_digests
from data_pipelines.frame import FrameError, decode_rgb
from data_pipelines.split import EpisodeSplit
from data_pipelines.stored_spec import SPEC, stored_spec
from data_pipelines.video.film import FilmPool, VideoError
from data_pipelines.video.film_index import FilmTimes, film_times
from data_pipelines.video.reader import FILMS, PICTURES, find_videos, pictures, timed_frame
from farsighted_jax.core.spec import CameraSpec, DatasetSpec, to_dict

SPLITS = ("train", "val", "test")
VERSION = "videos"
_KEY, _TEXT = "frames", "txt"
# Rates that differ by less are one: 29.97 and 30000/1001.
_SAME_RATE = 1e-3


@dataclasses.dataclass(frozen=True)
class Video:
    """One video: path and text relative to the folder, its pictures or the times of its frames."""

    path: str
    text: str
    files: tuple[str, ...] = ()
    times: FilmTimes | None = None


def is_videos(folder: str | os.PathLike) -> bool:
    """Whether a folder holds videos, or has a split that does."""
    return any(_has_videos(place) for place in (Path(folder), *_split_folders(folder)))


def split_names(folder: str | os.PathLike) -> list[str]:
    """Splits of a folder of videos; one whose videos stand in the folder itself is for training."""
    return [place.name for place in _split_folders(folder)] or ["train"]


def open_split(
    directory: str | os.PathLike,
    name: str,
    split: str,
    *,
    spec: DatasetSpec | None = None,
    version: str | None = None,
    on_corrupt: str = "strict",
    cache_dir: str | os.PathLike | None = None,
) -> VideoSplit:
    """Opens a split of a folder of videos; the first time every film is decoded once, to count its frames.

    Args:
      directory: local folder of datasets.
      name: dataset name, the folder below `directory`.
      split: one of `SPLITS` that is there, or a slice of one by videos, see `rlds.open_split`.
      spec: rate, and whether there are texts; by default dataset_spec.json in the dataset's folder,
        else the rate of the films, which must then be one.
      version: None or `VERSION`.
      on_corrupt: "strict" raises at the first damaged video; "skip" leaves it out and counts it.
      cache_dir: where derived files go, see `cache.cache_path`.

    Raises:
      DatasetError: no such split, a specification with actions, or no one rate.
    """
    folder = Path(directory) / name
    if version not in (None, VERSION):
        raise DatasetError(f"dataset {name!r}: expected version {version!r}, but {folder} holds videos")
    base, bounds = dataset_info.split_range(split)
    if base not in split_names(folder):
        raise DatasetError(f"{folder}: no split {base!r}; it has {split_names(folder)}")
    below = [place for place in _split_folders(folder) if place.name == base]
    videos = _videos(folder, below[0] if below else folder, cache_dir)
    spec = _checked(spec or stored_spec(folder) or _derived(folder, name, videos), folder)
    texts = [video.text for video in videos if video.text] if spec.language_key else []
    files = [file for video in videos for file in video.files or [video.path]]
    digests = end_digests(folder, [*files, *texts], cache_dir)
    content = hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()
    return VideoSplit(
        videos,
        spec=spec,
        name=name,
        split=split,
        directory=os.fspath(folder),
        version=VERSION,
        episodes=dataset_info.resolve_range(split, bounds, len(videos)),
        num_whole=len(videos),
        on_corrupt=on_corrupt,
        content=(base, content, json.dumps(to_dict(spec), sort_keys=True)),
    )


def spec_of(directory: str | os.PathLike, name: str) -> DatasetSpec:
    """The specification of a folder of videos, as `open_split` takes it; DatasetError as there."""
    folder = Path(directory) / name
    spec = stored_spec(folder)
    if spec is None:
        place = next(iter(_split_folders(folder)), folder)
        spec = _derived(folder, name, _videos(folder, place, None))
    return _checked(spec, folder)


class VideoSplit(EpisodeSplit):
    """The videos of a split."""

    def __init__(self, videos, **attributes):
        """Use `open_split`."""
        super().__init__(**attributes)
        self._videos, self._films = videos, FilmPool()

    def _read(self, number):
        return VideoEpisode(self, self._videos[self.first_episode + number], number, self._films)


class VideoEpisode:
    """See `split.AnyEpisode`; it has neither actions nor states.

    Attributes:
      index: number of the video in its split.
      num_steps: steps L at the dataset's rate.
      instruction: the first line of its text, b"" without one.
      instructions: all lines.
    """

    actions = states = timestamps = None

    def __init__(self, split: VideoSplit, video: Video, index: int, films: FilmPool):
        """Finds the frame of each step.

        Raises:
          RecordError: the film cannot be decoded, has fewer frames a second than the
            dataset, or its text cannot be read.
        """
        self._split, self._video, self._films, self.index = split, video, films, index
        if video.times is None:
            self._frames = np.arange(len(video.files))
        else:
            self._frames = self._nearest(video.times)
        self.num_steps = len(self._frames)
        self.instructions = self._texts()
        self.instruction = self.instructions[0] if self.instructions else b""

    def rgb(self, step: int, camera: str = "primary") -> np.ndarray:
        """The image of a step, uint8[H, W, 3]; RecordError if it cannot be decoded."""
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} is not within 0..{self.num_steps - 1} of episode {self.index}")
        self._split.spec.camera(camera)
        frame = int(self._frames[step])
        try:
            if self._video.times is None:
                return decode_rgb(Path(self._split.directory, self._video.files[frame]).read_bytes())
            with self._films.film(self._path) as film:
                return timed_frame(film, self._video.times.times, frame)
        except (OSError, FrameError, VideoError) as error:
            raise self.error(step, f"frame {frame}", str(error)) from error

    def depth(self, step: int, camera: str = "primary") -> None:
        """None: videos have no depth."""
        self._split.spec.camera(camera)

    @property
    def metadata(self) -> dict[str, Any]:
        """The video's path in the dataset."""
        return {"file": self._video.path}

    @property
    def num_bytes(self) -> int:
        """Memory that it holds; the film's own times are the split's."""
        return self._frames.nbytes

    def error(self, step: int, key: str, reason: str) -> RecordError:
        """An error that names file, episode, step and key, for what is decoded elsewhere."""
        return self._error(f"step {step}, {key}: {reason}")

    def _nearest(self, of):
        hz = self._split.spec.hz
        if of.damage:
            raise self._error(of.damage)
        times = of.times - of.times[0]
        # The mean distance of its frames counts, as its container may say anything.
        rate = (len(times) - 1) / times[-1] if times[-1] > 0 else hz
        if rate < hz * (1 - _SAME_RATE):
            raise self._error(f"{rate:.4g} frames a second, expected at least the dataset's {hz:g}")
        wanted = np.arange(int(times[-1] * hz + 1e-6) + 1) / hz
        after = np.clip(np.searchsorted(times, wanted), 1, max(1, len(times) - 1))
        if len(times) == 1:
            return np.zeros(1, np.int64)
        # Of two that are as near the earlier one, without floating-point noise deciding.
        earlier = wanted - times[after - 1] <= times[after] - wanted + 1e-6
        return np.where(earlier, after - 1, after)

    def _texts(self):
        if not self._split.spec.language_key or not self._video.text:
            return ()
        try:
            lines = Path(self._split.directory, self._video.text).read_bytes().splitlines()
            return tuple(line.strip() for line in lines if line.strip())
        except OSError as error:
            raise self._error(f"its text cannot be read: {error}") from error

    @property
    def _path(self):
        return os.path.join(self._split.directory, self._video.path)

    def _error(self, reason):
        return VideoFrameError(
            self._path, None, reason, f"dataset {self._split.name!r}, episode {self.index}"
        )


def _split_folders(folder):
    places = (Path(folder) / name for name in SPLITS)
    return [place for place in places if place.is_dir() and not pictures(place) and _has_videos(place)]


def _has_videos(folder):
    if not folder.is_dir():
        return False
    try:
        return bool(find_videos(folder))
    except VideoError:
        return False


def _videos(folder, place, cache_dir):
    found = find_videos(place)
    names = {path: path.relative_to(folder).as_posix() for path in found}
    films = film_times(folder, [names[path] for path in found if path.is_file()], cache_dir)
    videos = []
    for path in found:
        beside = path.with_name(f"{path.stem if path.is_file() else path.name}.{_TEXT}")
        text = beside.relative_to(folder).as_posix() if beside.is_file() else ""
        files = () if path.is_file() else tuple(p.relative_to(folder).as_posix() for p in pictures(path))
        videos.append(Video(names[path], text, files, films.get(names[path])))
    return videos


def _derived(folder, name, videos):
    rates = {round(video.times.rate, 3) for video in videos if video.times and video.times.rate}
    if len(rates) != 1 or any(video.times is None for video in videos):
        kinds = f"films at {sorted(rates)} frames a second" + (
            " and folders of pictures" if any(video.times is None for video in videos) else ""
        )
        example = {"name": name, "hz": 10, "cameras": [{"name": "primary", "rgb_key": _KEY}]}
        raise DatasetError(
            f"dataset {name!r}: {kinds} have no one rate; write {folder / SPEC}, e.g. {json.dumps(example)}"
        )
    has_text = any(video.text for video in videos)
    return DatasetSpec(
        name=name,
        hz=rates.pop(),
        cameras=(CameraSpec("primary", rgb_key=_KEY),),
        language_key=_TEXT if has_text else "",
        source=f"videos {FILMS}, pictures {PICTURES}",
    )


def _checked(spec, folder):
    more = [c.name for c in spec.cameras if c.name != "primary" or c.depth_key or c.bgr]
    if spec.action or spec.state_key or more:
        raise DatasetError(
            f"{folder / SPEC}: videos have one camera 'primary' without depth, no action and no state_key; "
            f"found action {spec.action and spec.action.names}, state_key {spec.state_key!r}, cameras {more}"
        )
    return spec
