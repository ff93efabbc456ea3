"""What a policy sees: frames up to frame 0 of several cameras, as fields of a batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from data_pipelines.episode import Episode
from data_pipelines.errors import RecordError
from data_pipelines.frame import Augmentation
from data_pipelines.frame_writer import FrameWriter
from data_pipelines.source import Source

Batch = dict[str, np.ndarray]


def empty_history(clip: Mapping[str, np.ndarray], num_frames: int, num_cameras: int) -> Batch:
    """The history's fields of a batch of padding.

    Args:
      clip: the clip's fields of that batch, whose row count, image size and depth it takes.
      num_frames: R, frame 0 included.
      num_cameras: P.
    """
    shape = (len(clip["rgb"]), num_frames, num_cameras)
    size = clip["rgb"].shape[2:4]
    batch = {"history_valid": np.zeros(shape, bool)}
    for name, field in _fields(clip).items():
        batch[field] = np.zeros((*shape, *size, clip[name].shape[-1]), clip[name].dtype)
    return batch


def write_history(
    batch: Batch,
    row: int,
    source: Source,
    episode: Episode,
    start: int,
    augmentation: Augmentation,
    frames: FrameWriter,
) -> Counter[str]:
    """Fills the history of a row of zeros whose frame 0 the clip holds already.

    Frames before the episode's begin and cameras that the dataset lacks stay
    masked, as do, with on_corrupt="skip", those that cannot be read.

    Args:
      batch: with the fields of `empty_history`, written in place.
      row: which row.
      source: its dataset.
      episode: its episode.
      start: step of frame 0.
      augmentation: the clip's draw.
      frames: makes the images.

    Returns:
      Cause (`RecordError.cause`) -> frames that could not be read.

    Raises:
      RecordError: an image that cannot be read (on_corrupt="strict").
    """
    fields, unread = _fields(batch), Counter()
    for r, back in enumerate(source.history):
        for p, camera in enumerate(source.cameras):
            if camera is None or start < back:
                continue
            out = {name: batch[field][row, r, p] for name, field in fields.items()}
            if back == 0 and camera is source.camera:
                for name, array in out.items():
                    array[...] = batch[name][row, 0]
            else:
                try:
                    frames.write(out, source, episode, start - back, camera, augmentation)
                except RecordError as error:
                    if source.split.on_corrupt == "strict":
                        raise
                    unread[error.cause] += 1
                    for array in out.values():
                        array[...] = 0
                    continue
            batch["history_valid"][row, r, p] = True
    return unread


def _fields(clip):
    """Field of the clip -> field of the history made alike. Of two depths it is the one that is sensed."""
    depth = next((name for name in ("sensed_depth", "depth") if name in clip), None)
    names = {"rgb": "history_rgb"}
    return names | ({depth: "history_depth", f"{depth}_valid": "history_depth_valid"} if depth else {})
