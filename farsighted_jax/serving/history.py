"""Frames that a policy has seen: kept by whoever runs the robot, so that the policy itself has no memory."""

from __future__ import annotations

import collections
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

IMAGES = ("rgb", "depth")


class FrameHistory:
    """Adds earlier frames to observations.

    `add` is called at every step of control, also at those at which the policy is
    not asked: a frame that nobody kept cannot be shown later.
    """

    def __init__(self, steps: Sequence[int]):
        """Takes R steps before the present one, the oldest first, 0 the last."""
        self._steps = tuple(steps)
        self._kept: collections.deque = collections.deque(maxlen=self._steps[0] + 1)

    def reset(self) -> None:
        """Forgets all frames: an episode begins."""
        self._kept.clear()

    def add(self, observation: Mapping[str, Any]) -> dict[str, Any]:
        """The observation of this step with the frames before it, as far as there are any.

        Args:
          observation: with one image a camera, see `observation`; its images are copied.
        """
        images = {key: observation[key] for key in IMAGES if key in observation}
        self._kept.append(
            {key: {role: np.array(image) for role, image in part.items()} for key, part in images.items()}
        )
        frames = [self._kept[-1 - back] for back in self._steps if back < len(self._kept)]
        stacked = {
            key: {role: np.stack([frame[key][role] for frame in frames]) for role in part}
            for key, part in images.items()
        }
        return {**observation, **stacked}
