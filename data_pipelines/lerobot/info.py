"""meta/info.json of a LeRobot dataset: what it holds and where."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.errors import DatasetError

INFO = "meta/info.json"
# v2.0 differs from v2.1 in its statistics only, which are not read.
VERSIONS = {"v2.0": 2, "v2.1": 2, "v3.0": 3}
_RANGE = re.compile(r"(\d+):(\d+)")


@dataclasses.dataclass(frozen=True)
class Info:
    """Content of meta/info.json, checked.

    Attributes:
      folder: of the dataset.
      version: its codebase_version, a key of `VERSIONS`.
      fps: frames a second.
      features: name -> {"dtype", "shape", "names"}.
      num_episodes: in the whole dataset.
      num_frames: likewise.
      splits: name -> (first episode, end).
      data_path: template of the parquet files' paths.
      video_path: template of the films' paths, "" without films.
      chunk_size: episodes (v2) or files (v3) a folder.
    """

    folder: str
    version: str
    fps: float
    features: Mapping[str, Mapping[str, Any]]
    num_episodes: int
    num_frames: int
    splits: Mapping[str, tuple[int, int]]
    data_path: str
    video_path: str
    chunk_size: int

    @property
    def layout(self) -> int:
        """2 with one file an episode, 3 with many."""
        return VERSIONS[self.version]

    def films(self) -> list[str]:
        """Features that are stored as films."""
        return [key for key, feature in self.features.items() if feature["dtype"] == "video"]

    def data_file(self, **values: Any) -> str:
        """Path of a parquet file, relative to the folder."""
        return self._filled("data_path", self.data_path, values)

    def film_file(self, **values: Any) -> str:
        """Path of a film, relative to the folder."""
        return self._filled("video_path", self.video_path, values)

    def _filled(self, key, template, values):
        try:
            path = template.format(**values)
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise DatasetError(
                f"{self.folder}/{INFO}: {key} {template!r} cannot be filled with {sorted(values)}: {error!r}"
            ) from error
        if os.path.isabs(path) or ".." in Path(path).parts:
            raise DatasetError(f"{self.folder}/{INFO}: {key} {template!r} leads out of the dataset: {path!r}")
        return path


def is_lerobot(folder: str | os.PathLike) -> bool:
    """Whether a folder is a LeRobot dataset."""
    return (Path(folder) / INFO).is_file()


def read_info(folder: str | os.PathLike) -> Info:
    """Reads and checks meta/info.json.

    Raises:
      DatasetError: it is no such document, lacks a key, or its codebase_version is not known; names the file.
    """
    path = Path(folder) / INFO
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        version = values["codebase_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DatasetError(f"{path}: expected an object with 'codebase_version': {error!r}") from error
    if version not in VERSIONS:
        raise DatasetError(
            f"{path}: codebase_version {version!r} is not known, expected one of {sorted(VERSIONS)}; LeRobot "
            "converts older datasets (its module convert_dataset_v21_to_v30 and those before it)"
        )
    try:
        info = Info(
            folder=os.fspath(folder),
            version=version,
            fps=float(values["fps"]),
            features={key: _feature(values["features"][key]) for key in values["features"]},
            num_episodes=int(values["total_episodes"]),
            num_frames=int(values["total_frames"]),
            splits=_splits(values.get("splits") or {}, int(values["total_episodes"])),
            data_path=values["data_path"],
            video_path=values.get("video_path") or "",
            chunk_size=int(values["chunks_size"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DatasetError(f"{path}: malformed: {error!r}") from error
    if not info.fps > 0 or info.chunk_size < 1:
        raise DatasetError(
            f"{path}: fps {info.fps} and chunks_size {info.chunk_size}, expected positive numbers"
        )
    return info


def _feature(values):
    shape = [int(size) for size in values["shape"]]
    return {**values, "dtype": str(values["dtype"]), "shape": shape}


def _splits(declared, num_episodes):
    """Ranges of episodes by name; a dataset that declares none is one for training."""
    splits = {}
    for name, text in (declared or {"train": f"0:{num_episodes}"}).items():
        match = _RANGE.fullmatch(str(text))
        if not match or not 0 <= int(match[1]) <= int(match[2]) <= num_episodes:
            raise ValueError(
                f"split {name!r} is {text!r}, expected 'first:end' within {num_episodes} episodes"
            )
        splits[name] = int(match[1]), int(match[2])
    return splits
