"""What a policy foresaw, beside what came: two pictures a moment, for films of episodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from farsighted_jax.viz.strips import shown_rgb

GREY = 128


def beside(frames: Sequence[np.ndarray], imagined: Mapping[int, np.ndarray], ahead: int) -> list[np.ndarray]:
    """Each frame with what was foreseen for its moment at its right.

    A picture stands from the step that it was foreseen for until another one is due; before the first there
    is grey.

    Args:
      frames: uint8[H, W, 3] one a step.
      imagined: step at which it was foreseen -> float[h, w, 3] within [0, 1], of the frame `ahead` later.
      ahead: steps from a question to the frame that is foreseen.

    Returns:
      uint8[H, 2 * W, 3] one a step.
    """
    pairs, right = [], np.full_like(frames[0], GREY)
    for step, frame_HWC in enumerate(frames):
        if step - ahead in imagined:
            size = frame_HWC.shape[1::-1]
            right = cv2.resize(shown_rgb(imagined[step - ahead]), size, interpolation=cv2.INTER_NEAREST)
        pairs.append(np.concatenate([frame_HWC, right], axis=1))
    return pairs
