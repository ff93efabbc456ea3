"""What encode, decode, transfer, retrieve and label share: a loaded model, and clips by a reference.

A reference is a video file, a folder of pictures, or steps of an RLDS episode:
`rlds:DIR/NAME:SPLIT:EPISODE` or `rlds:DIR/NAME:SPLIT:EPISODE:STEP`.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.clips import Batch, EpisodeFrames, FrameSource, clip_batch, clip_starts
from data_pipelines.dataset import open_split
from data_pipelines.frame import Preprocessing
from data_pipelines.split import EpisodeSplit
from data_pipelines.video.reader import open_video
from farsighted_jax.cli.run import Run, RunError, read_run
from farsighted_jax.core.normalization import denormalize_depth
from farsighted_jax.lam.frozen import NO_DEPTH_CONSTANTS, depth_constants
from farsighted_jax.lam.inference import LatentActions

CLIP_HELP = "video file, folder of pictures, or rlds:DIR/NAME:SPLIT:EPISODE[:STEP]"

_REFERENCE = re.compile(
    r"rlds:(?P<folder>.+)/(?P<name>[^/:]+):(?P<split>[\w-]+(?:\[[^\]]*\])?):(?P<episode>\d+)(?::(?P<step>\d+))?"
)


class ClipReferenceError(ValueError):
    """A clip reference that cannot be read; the message quotes it."""


@dataclasses.dataclass(frozen=True)
class Model:
    """A trained LAM and how it looks at images.

    Attributes:
      run: configuration, statistics and weights.
      actions: its compiled functions.
      offsets_s: seconds from frame 0 to each keyframe, where a dataset has none of its own.
      preprocessing: of every image.
    """

    run: Run
    actions: LatentActions
    offsets_s: tuple[float, ...]
    preprocessing: Preprocessing

    def describe(self) -> dict[str, Any]:
        """What tells codes of this model from those of others, for JSON."""
        return {
            "digest": self.actions.digest,
            "step": self.run.step,
            "codebook_size": self.actions.codebook_size,
            "num_slots": self.actions.num_slots,
            "offsets_s": list(self.offsets_s),
            "resolution": self.preprocessing.resolution,
        }

    def offsets_of(self, dataset: str) -> tuple[float, ...]:
        """Seconds from frame 0 to each keyframe of an RLDS dataset; "" for a video."""
        own = dict(self.run.config.data.get("dataset_offsets_s", ()))
        return tuple(own.get(dataset, self.offsets_s))

    def starts(self, source: FrameSource, *, every_s: float | None = None, first: int = 0) -> range:
        """Where complete clips of a source begin; see `data_pipelines.clips.clip_starts`."""
        return clip_starts(source, self.offsets_of(source.dataset), every_s=every_s, first=first)

    def depth_constants(self, split: EpisodeSplit) -> tuple[float, float] | None:
        """(center, scale) of log depth for an RLDS dataset; None where no depth is read of it."""
        has_depth = split.spec.camera(self.run.config.data.camera).depth_key
        return depth_constants(self.run.statistics, split.name) if has_depth else None

    def depth_m(self, depth: np.ndarray) -> np.ndarray | None:
        """Predicted depth in metres, by the constants of the run's first dataset with depth; None without."""
        constants = depth_constants(self.run.statistics, "")
        return denormalize_depth(np.clip(depth, -20, 20), *constants) if constants else None

    def blank_depth(self, dataset: str) -> tuple[float, float] | None:
        """(center, scale) of log depth for a source without depth; None where the model reads none.

        Only an estimate in metres needs them; see `lam.frozen.depth_constants`.
        """
        if "depth" not in self.run.task.fields:
            return None
        return depth_constants(self.run.statistics, dataset) or NO_DEPTH_CONSTANTS

    def clips(self, source: FrameSource, starts: Sequence[int]) -> Batch:
        """The clips that begin at `starts`, at the model's size."""
        offsets_s, blank = self.offsets_of(source.dataset), self.blank_depth(source.dataset)
        return clip_batch(source, starts, offsets_s, self.preprocessing, blank)

    def open(self, reference: str, fps: float | None = None) -> tuple[FrameSource, int | None]:
        """Opens a clip reference.

        Returns:
          source: its frames.
          start: the step it names, or None.

        Raises:
          ClipReferenceError: no such form.
          DatasetError: what it names cannot be read.
        """
        if not reference.startswith("rlds:"):
            return open_video(reference, fps), None
        match = _REFERENCE.fullmatch(reference)
        if not match:
            raise ClipReferenceError(
                f"clip {reference!r} is not of the form rlds:DIR/NAME:SPLIT:EPISODE[:STEP]"
            )
        split = self.open_split(match["folder"], match["name"], match["split"])
        number = int(match["episode"])
        if number >= split.num_episodes:
            raise ClipReferenceError(
                f"clip {reference!r}: the split has {split.num_episodes} episodes, from 0 on"
            )
        return self.episode(split, number), None if match["step"] is None else int(match["step"])

    def open_split(self, folder: str, name: str, split: str) -> EpisodeSplit:
        """Opens a split with the run's settings."""
        data = self.run.config.data
        return open_split(folder, name, split, on_corrupt=data.on_corrupt, cache_dir=data.cache_dir or None)

    def episode(self, split: EpisodeSplit, number: int) -> EpisodeFrames:
        """An episode as the run sees it."""
        camera = self.run.config.data.camera
        return EpisodeFrames(split, number, camera=camera, depth=self.depth_constants(split))

    def one_clip(self, reference: str, fps: float | None = None) -> tuple[FrameSource, Batch]:
        """The clip that begins at a reference's step (0 by default), as a batch of one row."""
        source, start = self.open(reference, fps)
        starts = self.starts(source, first=start or 0)[:1]
        return source, self.clips(source, starts)

    def first_frame(self, reference: str, fps: float | None = None) -> np.ndarray:
        """uint8[R, R, 3], the frame that a reference begins with; a picture file is one too."""
        # The rate of a folder of pictures does not matter for its first frame.
        source, start = self.open(reference, fps or (1.0 if Path(reference).is_dir() else None))
        start = start or 0
        if start >= source.num_frames:
            raise ClipReferenceError(f"clip {reference!r}: no step {start}, it has {source.num_frames}")
        return source.prepared([start], self.preprocessing)["rgb"][0]

    def decoded(self, first_HWC: np.ndarray, time_s_Bt: np.ndarray, code_BtZ: np.ndarray) -> Batch:
        """Frames and depth that codes predict from one frame 0.

        Args:
          first_HWC: uint8[R, R, 3].
          time_s_Bt: float[B, t] seconds after frame 0.
          code_BtZ: int[B, t, Z].
        """
        vectors = self.actions.vectors(code_BtZ)
        num = len(vectors)
        first_BTHWC = np.broadcast_to(first_HWC, (num, 1, *first_HWC.shape))
        time_s_BT = np.concatenate([np.zeros((num, 1)), time_s_Bt], axis=1).astype(np.float32)
        batch = {"rgb": first_BTHWC, "time_s": time_s_BT}
        return {name: np.asarray(value) for name, value in self.actions.decode(batch, vectors).items()}


def load_model(checkpoint: str | os.PathLike, step: int | None = None, devices=None) -> Model:
    """Reads a LAM's run folder; see `run.read_run` for its errors."""
    run = read_run(Path(checkpoint), step)
    if run.config.task != "lam":
        raise RunError(
            f"{checkpoint} holds a run of {run.config.task!r}, which gives no codes; expected 'lam'"
        )
    actions = LatentActions(run.task, run.params, run.model_state, devices=devices)
    data = run.config.data
    return Model(run, actions, tuple(data.offsets_s), Preprocessing(data.resolution))
