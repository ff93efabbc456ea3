"""Clips made of the frames of other clips: parts, and clips run backwards."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from farsighted_jax.evaluators.base import Arrays

FRAME_FIELDS = ("rgb", "depth", "depth_valid", "sensed_depth", "sensed_depth_valid")
SAMPLE_FIELDS = ("depth_center", "depth_scale", "dataset", "episode", "step")


def reclipped(batch: Arrays, frames: Sequence[int]) -> dict[str, np.ndarray]:
    """A batch whose clips show the given frames, in that order; the rest up to T is masked.

    Codes of transition k depend on frames 0..k alone, so what follows the last
    of `frames` has no influence on them.

    Args:
      batch: numpy fields of `core.batch`.
      frames: n <= T frame indices, rising or falling; time runs forward either way.

    Returns:
      A batch of the same shapes, without actions.
    """
    frames, num = np.asarray(frames), len(frames)
    result = {name: np.asarray(batch[name]) for name in SAMPLE_FIELDS if name in batch}
    for name in (*FRAME_FIELDS, "time_s", "frame_valid"):
        if name in batch:
            array = np.asarray(batch[name])
            result[name] = np.zeros_like(array)
            result[name][:, :num] = array[:, frames]
    time_s_Bn = result["time_s"][:, :num]
    result["time_s"][:, :num] = np.abs(time_s_Bn - time_s_Bn[:, :1])
    result["time_s"][~result["frame_valid"]] = 0
    return result
