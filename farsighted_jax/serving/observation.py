"""Raw observations of a robot as a batch of the policy: what training did to them, done by the same code.

An observation is a mapping. Everything in it is as the dataset stores it:

    rgb          {role of a camera: uint8[H, W, 3] or uint8[n, H, W, 3]} of any size
    depth        {role: number[H, W] or number[n, H, W]} in the camera's own unit; it may be left out
    state        float[I]
    instruction  text, "" for none

With a history an image is n frames, the oldest first and the present one last;
what is missing of R is taken for time before the episode's begin. One image is
n = 1. `history.FrameHistory` keeps the frames.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from data_pipelines.frame import FrameError, Preprocessing, prepare_depth, prepare_rgb
from data_pipelines.language.instructions import Instructions
from farsighted_jax.core.config import nearest
from farsighted_jax.core.normalization import ArrayStatistics, Normalizer, normalize_depth
from farsighted_jax.core.spec import DatasetSpec

RawObservation = Mapping[str, Any]


class ObservationError(ValueError):
    """An observation that a policy cannot read; the message names the key and what was expected."""


@dataclasses.dataclass(frozen=True)
class ObservationReader:
    """Turns observations of one embodiment into batches.

    Attributes:
      spec: what its dataset says of cameras and state.
      index: of its dataset in the mixture.
      preprocessing: of every image.
      cameras: P roles.
      num_frames: R.
      with_depth: whether batches have depth.
      depth: (center, scale) of log depth, or None where this dataset had none.
      state: statistics of the proprioception, or None where none is read.
      state_width: of the widest dataset; 0 for batches without proprioception.
      normalization: word of `core.normalization.MODES`.
      instructions: what makes its texts, or None where none are read.
    """

    spec: DatasetSpec
    index: int
    preprocessing: Preprocessing
    cameras: tuple[str, ...]
    num_frames: int
    with_depth: bool
    depth: tuple[float, float] | None
    state: ArrayStatistics | None
    state_width: int
    normalization: str
    instructions: Instructions | None

    @property
    def roles(self) -> tuple[str, ...]:
        """Cameras that an observation must have: those of `cameras` that this dataset has."""
        present = [camera.name for camera in self.spec.cameras]
        return tuple(role for role in self.cameras if role in present)

    @property
    def depth_roles(self) -> tuple[str, ...]:
        """Cameras whose depth is read."""
        if self.depth is None:
            return ()
        return tuple(role for role in self.roles if self.spec.camera(role).depth_key)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of an observation; all but depth are required."""
        read = {
            "rgb": True,
            "depth": self.depth_roles,
            "state": self.state,
            "instruction": self.instructions,
        }
        return tuple(key for key, part in read.items() if part)

    def batch(self, observations: Sequence[RawObservation]) -> dict[str, np.ndarray]:
        """Observations as rows of a batch, see `core.batch.FIELDS`.

        Raises:
          ObservationError: a key, camera or value that is missing, unknown, not finite, or of another
            shape or dtype.
        """
        batch = self._empty(len(observations))
        for row, observation in enumerate(observations):
            try:
                self._write(batch, row, observation)
            except (ObservationError, FrameError) as error:
                where = f"observation {row}: " if len(observations) > 1 else ""
                raise ObservationError(f"{where}{error}") from error
        return batch

    def _empty(self, num_rows):
        size = self.preprocessing.resolution
        shape = (num_rows, self.num_frames, len(self.cameras))
        batch = {
            "history_rgb": np.zeros((*shape, size, size, 3), np.uint8),
            "history_valid": np.zeros(shape, bool),
            "dataset": np.full(num_rows, self.index, np.int32),
        }
        if self.with_depth:
            batch["history_depth"] = np.zeros((*shape, size, size, 1), np.float32)
            batch["history_depth_valid"] = np.zeros((*shape, size, size, 1), bool)
            center, scale = self.depth or (0.0, 1.0)
            batch["depth_center"] = np.full(num_rows, center, np.float32)
            batch["depth_scale"] = np.full(num_rows, scale, np.float32)
        if self.state_width:
            batch["proprio"] = np.zeros((num_rows, self.state_width), np.float32)
            batch["proprio_valid"] = np.zeros((num_rows, self.state_width), bool)
        if self.instructions:
            batch["text"] = np.zeros((num_rows, self.instructions.length), np.int32)
            batch["text_valid"] = np.zeros((num_rows, self.instructions.length), bool)
        return batch

    def _write(self, batch, row, observation):
        self._check_keys(observation)
        self._write_rgb(batch, row, observation["rgb"])
        if "depth" in observation:
            self._write_depth(batch, row, observation["depth"])
        if self.state is not None:
            state_I = self._state(observation["state"])
            batch["proprio"][row, : len(state_I)] = Normalizer(self.state, self.normalization)(state_I)
            batch["proprio_valid"][row, : len(state_I)] = True
        if self.instructions:
            text = observation["instruction"]
            if not isinstance(text, str):
                raise ObservationError(f"'instruction' is of type {type(text).__name__}, expected a text")
            # A lone surrogate is no UTF-8; the dataset's own bytes of that kind are tokens too.
            encoded = text.encode("utf-8", errors="surrogatepass")
            self.instructions.write(encoded, batch["text"][row], batch["text_valid"][row])

    def _check_keys(self, observation):
        if not isinstance(observation, Mapping):
            raise ObservationError(f"an observation is a mapping, found {type(observation).__name__}")
        for key in observation:
            if key not in self.keys:
                hint = nearest(str(key), self.keys)
                raise ObservationError(f"unknown key {key!r}{hint}; this policy reads {self.keys}")
        missing = [key for key in self.keys if key not in observation and key != "depth"]
        if missing:
            raise ObservationError(f"it lacks {missing}; this policy reads {self.keys}")

    def _write_rgb(self, batch, row, images):
        self._check_roles("rgb", images, self.roles)
        missing = [role for role in self.roles if role not in images]
        if missing:
            raise ObservationError(f"'rgb' lacks camera {missing[0]!r}, expected images of {self.roles}")
        for role in self.roles:
            p, camera = self.cameras.index(role), self.spec.camera(role)
            for r, image_HWC in self._frames("rgb", role, images[role], 3):
                out = batch["history_rgb"][row, r, p]
                _named(
                    "rgb", role, prepare_rgb, image_HWC, self.preprocessing,
                    rotate_180=camera.rotate_180, out=out,
                )  # fmt: skip
                batch["history_valid"][row, r, p] = True

    def _write_depth(self, batch, row, maps):
        self._check_roles("depth", maps, self.depth_roles)
        for role in maps:
            p, camera = self.cameras.index(role), self.spec.camera(role)
            for r, depth_HW in self._frames("depth", role, maps[role], 2):
                if not batch["history_valid"][row, r, p]:
                    raise ObservationError(f"'depth' of camera {role!r} has more frames than its 'rgb'")
                depth_m, valid = _named("depth", role, prepare_depth, depth_HW, camera, self.preprocessing)
                batch["history_depth"][row, r, p, ..., 0] = normalize_depth(depth_m, valid, *self.depth)
                batch["history_depth_valid"][row, r, p, ..., 0] = valid

    def _check_roles(self, key, images, roles):
        if not isinstance(images, Mapping):
            raise ObservationError(f"{key!r} is of type {type(images).__name__}, expected one image a camera")
        for role in images:
            if role not in roles:
                raise ObservationError(f"{key!r} has an unknown camera {role!r}, expected those of {roles}")

    def _frames(self, key, role, images, rank):
        """(place in the history, image) of each frame given."""
        images = np.asarray(images)
        images = images if images.ndim == rank + 1 else images[None]
        if not 1 <= len(images) <= self.num_frames:
            raise ObservationError(
                f"{key!r} of camera {role!r}: {len(images)} frames, expected 1 to {self.num_frames}"
            )
        return enumerate(images, start=self.num_frames - len(images))

    def _state(self, state):
        state_I, width = np.asarray(state), len(self.state.mean)
        if state_I.shape != (width,) or not np.issubdtype(state_I.dtype, np.number):
            raise ObservationError(
                f"'state' is {state_I.dtype}{list(state_I.shape)}, expected float[{width}]: "
                f"{', '.join(self.spec.state_names)}"
            )
        bad = np.flatnonzero(~np.isfinite(state_I))
        if len(bad):
            names = self.spec.state_names or range(width)
            raise ObservationError(
                f"'state': dimension {bad[0]} ({names[bad[0]]}) is {state_I[bad[0]]}, expected finite numbers"
            )
        return state_I


def _named(key, role, function, *arguments, **options):
    try:
        return function(*arguments, **options)
    except FrameError as error:
        raise ObservationError(f"{key!r} of camera {role!r}: {error}") from error
