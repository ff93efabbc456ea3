"""One RLDS episode: numbers at once, encoded images and depth only where asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from tensorflow_datasets.core import features as tfds_features
from tensorflow_datasets.core.example_parser import ExampleParserNp
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.errors import NonFiniteError, RecordError
from data_pipelines.features import Features
from data_pipelines.frame import FrameError, decode_rgb
from data_pipelines.recipe import Recipe, Standard
from farsighted_jax.core.spec import CAMERA_ROLES, CameraSpec, DatasetSpec

_PARSE_ERRORS = (DecodeError, KeyError, ValueError, TypeError, AttributeError, RuntimeError)


class EpisodeParser:
    """Reads the parts of an episode that a specification or a recipe names, and no others."""

    def __init__(self, features: Features, spec: DatasetSpec, recipe: Recipe | None = None):
        """Takes features that have passed `features.check_spec`; without a recipe, all is just stored."""
        self.spec, self.recipe = spec, recipe
        self._features = features
        names = [spec.action_key if spec.action else "", spec.state_key, spec.language_key]
        names = list(recipe.keys) if recipe else [name for name in names if name]
        self._numbers = [f"steps/{name}" for name in names or [spec.cameras[0].rgb_key]]
        self._metadata = [key for key in features.serialized if key.startswith("episode_metadata/")]

    def parse(self, record: bytes) -> tf_example_pb2.Example:
        """The record's features, still encoded; TFDS's own parser would decode the record anew each time."""
        return tf_example_pb2.Example.FromString(record)

    def numbers(self, example: tf_example_pb2.Example) -> Mapping[str, Any]:
        """Actions, states and instructions: key -> one row a step."""
        stored = example.features.feature
        absent = [key for key in self._numbers if key not in stored]
        if absent:
            raise KeyError(f"the record lacks {absent}, which features.json declares")
        return {key.removeprefix("steps/"): self._rows(stored, key) for key in self._numbers}

    def column(self, example: tf_example_pb2.Example, key: str) -> Any:
        """One image or depth feature: one encoded value or array a step."""
        key, stored = f"steps/{key}", example.features.feature
        if key in stored:
            return self._values(stored[key], key)
        # Ragged features stand under names of their own.
        return self._by_tfds(example, [key])[key]

    def metadata(self, example: tf_example_pb2.Example) -> dict[str, Any]:
        """The episode's own features by key."""
        stored = self._by_tfds(example, self._metadata)
        return {key.removeprefix("episode_metadata/"): value for key, value in stored.items()}

    def num_bytes(self, example: tf_example_pb2.Example, record_bytes: int) -> int:
        """Memory of a parsed record, and of the columns that are made of it."""
        features = example.features.feature
        # Whole numbers are packed on disk.
        whole = 8 * sum(len(feature.int64_list.value) for feature in features.values())
        columns = sum(
            4 * len(features[f"steps/{camera.depth_key}"].float_list.value)
            for camera in self.spec.cameras
            if f"steps/{camera.depth_key}" in features
        )
        return record_bytes + 2 * whole + columns

    def leaf(self, key: str) -> Any:
        """TFDS feature of a step feature."""
        return self._features.leaves[f"steps/{key}"]

    def _by_tfds(self, example, keys):
        parser = ExampleParserNp({key: self._features.serialized[key] for key in keys})
        stored = parser.parse_example(example.SerializeToString())
        absent = [key for key, values in stored.items() if values is None]
        if absent:
            raise KeyError(f"the record lacks {absent}, which features.json declares")
        return stored

    def _values(self, feature, key):
        """Texts and encoded images as a list of bytes, which copies only those asked for; else an array."""
        kind, info = feature.WhichOneof("kind"), self._features.serialized[key]
        if kind is None or (info.np_dtype == np.object_ and kind != "bytes_list"):
            raise TypeError(f"{key!r} holds {kind}, expected {info.np_dtype}")
        values = getattr(feature, kind).value
        if info.np_dtype == np.object_ and len(info.shape) == 1:
            return values
        shape = [-1 if size is None else size for size in info.shape]
        try:
            return np.array(values, info.np_dtype).reshape(shape)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{key!r}: {error}") from error

    def _rows(self, stored, key):
        values, leaf = self._values(stored[key], key), self._features.leaves[key]
        # Of images only the number counts here, for video without actions, state and instruction.
        if leaf.shape and not isinstance(values, np.ndarray) and not isinstance(leaf, tfds_features.Image):
            decoded = [leaf.decode_example_np(value) for value in values]
            return np.array(decoded, leaf.np_dtype).reshape(-1, *leaf.shape)
        return values


class Episode:
    """One episode. Its end is the end of its record; flags such as `is_last` are not read.

    Attributes:
      index: number of the episode in its split.
      num_steps: steps L, may be 0.
      actions: float32[L, M], or None for action-free video.
      states: float32[L, I], or None.
      instruction: instruction of the first step as stored, b"" if there is none.
      instructions: the same and what else the first step says of the task.
      num_bytes: memory that it holds, images not decoded.
    """

    __slots__ = (
        "index",
        "num_steps",
        "_stored_steps",
        "_steps",
        "actions",
        "states",
        "instructions",
        "num_bytes",
        "_parser",
        "_example",
        "_place",
        "_columns",
    )

    def __init__(self, parser: EpisodeParser, record: bytes, index: int, place: tuple[str, int]):
        """Parses the numbers of a record.

        Args:
          parser: of the dataset.
          record: payload.
          index: number of the episode in its split.
          place: file and record number, for errors.

        Raises:
          RecordError: the record cannot be parsed, its features differ in
            length, or an action or state is NaN or Inf; names step, key and dimension.
        """
        self._parser, self._place, self.index = parser, place, index
        self._columns: dict[str, Any] = {}
        spec = parser.spec
        self._example = self._guarded(lambda: parser.parse(record), "its numbers")
        self.num_bytes = parser.num_bytes(self._example, len(record))
        rows = self._guarded(lambda: parser.numbers(self._example), "its numbers")
        lengths = {key: len(values) for key, values in rows.items()}
        if len(set(lengths.values())) != 1:
            raise self._error(f"features differ in length: {lengths}")
        self._stored_steps = next(iter(lengths.values()))
        standard = self._guarded(lambda: self._standard(rows), "its numbers")
        self._steps, self.num_steps = standard.steps, len(standard.steps)
        self.instructions = standard.instructions
        names = spec.action.names if spec.action else ()
        self.actions = self._finite(standard.action, spec.action_key, names)
        self.states = self._finite(standard.state, spec.state_key, spec.state_names)

    def rgb_bytes(self, step: int, camera: str = "primary") -> bytes:
        """The encoded image of a step; b"" where the dataset lacks that camera."""
        spec = self._camera(camera)
        return b"" if spec is None else bytes(self._column(spec.rgb_key)[self._checked(step)])

    def rgb(self, step: int, camera: str = "primary") -> np.ndarray:
        """The image of a step as it is stored, uint8[H, W, 3] RGB; RecordError if it cannot be decoded."""
        spec = self._camera(camera)
        try:
            image_HWC = decode_rgb(self.rgb_bytes(step, camera))
        except FrameError as error:
            raise self.error(step, spec.rgb_key if spec else camera, str(error)) from error
        return np.ascontiguousarray(image_HWC[..., ::-1]) if spec and spec.bgr else image_HWC

    def depth(self, step: int, camera: str = "primary") -> np.ndarray | None:
        """The stored depth map of a step.

        Returns:
          float32[H, W] in the dataset's own unit (`CameraSpec.depth_unit_m`), or
          None where the dataset has no depth for that camera.

        Raises:
          RecordError: it cannot be decoded.
        """
        spec = self._camera(camera)
        if spec is None or not spec.depth_key:
            return None
        leaf, stored = self._parser.leaf(spec.depth_key), self._column(spec.depth_key)[self._checked(step)]
        if isinstance(stored, bytes):
            what = f"step {step}, key {spec.depth_key!r}"
            stored = self._guarded(lambda: leaf.decode_example_np(stored), what)
        return np.asarray(stored, np.float32).reshape(stored.shape[:2])

    @property
    def instruction(self) -> bytes:
        """See the class."""
        return self.instructions[0] if self.instructions else b""

    @property
    def timestamps(self) -> np.ndarray | None:
        """Seconds of each step, float64[L], where the dataset says them: RLDS does not."""
        return None

    @property
    def metadata(self) -> dict[str, Any]:
        """The episode's own features ("episode_metadata"), by key."""
        return self._guarded(lambda: self._parser.metadata(self._example), "episode_metadata")

    def error(self, step: int, key: str, reason: str) -> RecordError:
        """An error that names file, record, episode, step and key, for what is decoded elsewhere."""
        return self._error(f"step {step}, key {key!r}: {reason}")

    def _camera(self, name) -> CameraSpec | None:
        spec = self._parser.spec
        if name in CAMERA_ROLES and name not in [camera.name for camera in spec.cameras]:
            return None
        return spec.camera(name)

    def _column(self, key):
        if key not in self._columns:
            values = self._guarded(lambda: self._parser.column(self._example, key), f"key {key!r}")
            if len(values) != self._stored_steps:
                raise self._error(f"key {key!r}: {len(values)} steps, expected {self._stored_steps}")
            self._columns[key] = values
        return self._columns[key]

    def _checked(self, step):
        if not 0 <= step < self.num_steps:
            raise IndexError(f"step {step} is not within 0..{self.num_steps - 1} of episode {self.index}")
        return self._steps[step]

    def _standard(self, rows):
        spec = self._parser.spec
        if self._parser.recipe:
            return self._parser.recipe.standard(rows, self._stored_steps)
        texts = rows[spec.language_key] if spec.language_key else ()
        return Standard(
            steps=range(self._stored_steps),
            action=np.asarray(rows[spec.action_key], np.float32) if spec.action else None,
            state=np.asarray(rows[spec.state_key], np.float32) if spec.state_key else None,
            instructions=tuple(map(bytes, texts[:1])),
        )

    def _finite(self, values, key, names):
        if values is not None and not np.isfinite(values).all():
            step, dimension = (int(i) for i in np.argwhere(~np.isfinite(values))[0])
            name = f" ({names[dimension]})" if names else ""
            reason = f"dimension {dimension}{name} is {values[step, dimension]}, expected a finite number"
            raise self._error(f"step {step}, key {key!r}: {reason}", NonFiniteError)
        return values

    def _guarded(self, function, what):
        try:
            return function()
        except _PARSE_ERRORS as error:
            raise self._error(
                f"{what} cannot be parsed: {type(error).__name__}: {str(error)[:300]}"
            ) from error

    def _error(self, reason, kind=RecordError):
        path, record = self._place
        return kind(path, record, reason, f"dataset {self._parser.spec.name!r}, episode {self.index}")
