"""Quality of the next keyframe as a policy imagines it, beside copying the present frame."""

from __future__ import annotations

from typing import Any

from farsighted_jax.evaluators.base import Arrays, Setup
from farsighted_jax.evaluators.reconstruction import Reconstruction

CLIP_FIELDS = ("rgb", "depth", "depth_valid", "time_s", "frame_valid")

# What is there even of a policy that predicts no frame, without any horizon.
ALWAYS = ("psnr", "psnr_copy", "psnr_over_copy", "ssim", "ssim_copy", "num_samples")


class ImaginedFrame:
    """The quantities of `Reconstruction`, of frame 1 alone and without shuffled codes."""

    needs = frozenset({"imagined"})

    def __init__(self, setup: Setup):
        self._reconstruction = Reconstruction(setup)

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds one batch."""
        if "rgb" in outputs:
            pair = {name: batch[name][:, :2] for name in CLIP_FIELDS if name in batch}
            self._reconstruction.update({**batch, **pair}, outputs)

    def result(self) -> dict[str, Any]:
        """Metric -> horizon of frame 1 -> value; see `Reconstruction`."""
        return {name: {} for name in ALWAYS} | self._reconstruction.result()
