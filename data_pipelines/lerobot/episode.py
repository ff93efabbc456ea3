"""One episode of a LeRobot dataset: numbers at once, pictures only where asked for."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines.errors import NonFiniteError, RecordError, VideoFrameError
from data_pipelines.frame import FrameError, decode_rgb
from data_pipelines.lerobot.index import EpisodePlace
from data_pipelines.lerobot.info import Info
from data_pipelines.lerobot.rows import RowReader, vectors
from data_pipelines.video.film import FilmPool, VideoError
from farsighted_jax.core.spec import DatasetSpec

_NUMBERS = ("timestamp", "episode_index", "task_index")


@dataclasses.dataclass(frozen=True)
class Shelf:
    """What the episodes of a dataset share."""

    info: Info
    spec: DatasetSpec
    tasks: Mapping[int, str]
    rows: RowReader
    films: FilmPool


class LeRobotEpisode:
    """See `split.AnyEpisode`.

    Attributes:
      index: number of the episode in its split.
      num_steps: steps L.
      actions: float32[L, M], or None.
      states: float32[L, I], or None.
      instruction: task of the first step, b"" if there is none.
      timestamps: float64[L] seconds since the episode began.
    """

    def __init__(self, shelf: Shelf, place: EpisodePlace, index: int):
        """Reads the numbers of an episode.

        Raises:
          RecordError: its rows cannot be read, are another episode's or of another width,
            or hold a NaN or Inf; names file, episode, step, key and dimension.
        """
        self._shelf, self._place, self.index = shelf, place, index
        spec, self.num_steps = shelf.spec, place.length
        keys = {spec.action_key: spec.action, spec.state_key: spec.state_key}
        columns = [key for key, wanted in keys.items() if wanted]
        columns += [name for name in _NUMBERS if name in shelf.info.features]
        try:
            self._rows = shelf.rows.rows(place.data, columns, place.first_row, place.length)
        except RecordError as error:
            raise error.within(self._context()) from error
        self._check_number()
        self.actions = self._vector(spec.action_key, spec.action.names) if spec.action else None
        self.states = self._vector(spec.state_key, spec.state_names) if spec.state_key else None
        self.timestamps = self._timestamps()
        self.instruction = self._instruction()

    def rgb(self, step: int, camera: str = "primary") -> np.ndarray:
        """The image of a step, uint8[H, W, 3].

        Raises:
          RecordError: it cannot be decoded, or the film has no frame at that time.
        """
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} is not within 0..{self.num_steps - 1} of episode {self.index}")
        key = self._shelf.spec.camera(camera).rgb_key
        if self._shelf.info.features[key]["dtype"] == "image":
            return self._picture(step, key)
        film, begin = self._place.films[key]
        path = os.path.join(self._shelf.info.folder, film)
        try:
            with self._shelf.films.film(path) as opened:
                return opened.frame_at(begin + self.timestamps[step], 0.5 / self._shelf.info.fps)
        except VideoError as error:
            reason = f"step {step}, key {key!r}: {error}"
            raise VideoFrameError(path, None, reason, self._context()) from error

    def depth(self, step: int, camera: str = "primary") -> None:
        """None: depth of LeRobot datasets is not read."""
        self._shelf.spec.camera(camera)

    @property
    def instructions(self) -> tuple[bytes, ...]:
        """The instruction alone: tasks of an episode follow each other, they do not say the same."""
        return (self.instruction,)

    @property
    def metadata(self) -> dict[str, Any]:
        """Number in the whole dataset, and its tasks."""
        return {"episode_index": self._place.number, "tasks": list(self._place.tasks)}

    @property
    def num_bytes(self) -> int:
        """Memory that it holds."""
        arrays = (self.actions, self.states, self.timestamps)
        return self._rows.nbytes + sum(array.nbytes for array in arrays if array is not None)

    def error(self, step: int, key: str, reason: str) -> RecordError:
        """An error that names file, episode, step and key, for what is decoded elsewhere."""
        return self._error(f"step {step}, key {key!r}: {reason}")

    def _picture(self, step, key):
        place = self._place
        try:
            rows = self._shelf.rows.rows(place.data, [key], place.first_row + step, 1)
        except RecordError as error:
            raise error.within(self._context()) from error
        stored = rows.column(0)[0].as_py()
        encoded = stored.get("bytes") if isinstance(stored, dict) else stored
        if not isinstance(encoded, bytes):
            found = sorted(stored) if isinstance(stored, dict) else type(stored).__name__
            raise self.error(step, key, f"expected an encoded image under 'bytes', found {found} without")
        try:
            return decode_rgb(encoded)
        except FrameError as error:
            raise self.error(step, key, str(error)) from error

    def _check_number(self):
        if "episode_index" not in self._rows.column_names:
            return
        numbers = set(self._rows.column("episode_index").to_pylist()) - {self._place.number}
        if numbers:
            first = self._place.first_row
            raise self._error(
                f"rows {first} to {first + self.num_steps - 1} hold episode(s) {sorted(numbers, key=str)}, "
                f"expected {self._place.number}"
            )

    def _column(self, key, width):
        try:
            return vectors(self._rows.column(key), width)
        except (ValueError, TypeError, AttributeError) as error:
            raise self._error(f"key {key!r}: {error}") from error

    def _vector(self, key, names):
        width = self._shelf.info.features[key]["shape"][0]
        values = self._column(key, width).astype(np.float32)
        if not np.isfinite(values).all():
            step, dimension = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
            name = f" ({names[dimension]})" if names else ""
            reason = f"dimension {dimension}{name} is {values[step, dimension]}, expected a finite number"
            raise self._error(f"step {step}, key {key!r}: {reason}", NonFiniteError)
        return values

    def _timestamps(self):
        if "timestamp" not in self._rows.column_names:
            return np.arange(self.num_steps) / self._shelf.info.fps
        seconds = self._column("timestamp", 1)[:, 0].astype(np.float64)
        if not np.isfinite(seconds).all():
            step = int(np.flatnonzero(~np.isfinite(seconds))[0])
            raise self._error(f"step {step}, key 'timestamp' is {seconds[step]}", NonFiniteError)
        return seconds

    def _instruction(self):
        if not self._shelf.spec.language_key or not self.num_steps:
            return b""
        number = self._rows.column("task_index")[0].as_py()
        if number not in self._shelf.tasks:
            raise self._error(
                f"step 0, key 'task_index': {number} is none of the {len(self._shelf.tasks)} tasks in meta/"
            )
        return self._shelf.tasks[number].encode()

    def _context(self):
        return f"dataset {self._shelf.spec.name!r}, episode {self.index}"

    def _error(self, reason, kind=RecordError):
        path = os.path.join(self._shelf.info.folder, self._place.data)
        return kind(path, None, reason, self._context())
