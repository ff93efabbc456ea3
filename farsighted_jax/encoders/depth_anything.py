"""Depth Anything V2: DINOv2 and a DPT head, from one image to its depth; used frozen.

The relative networks give inverse depth up to scale and shift, the metric ones
metres up to the largest depth of their training set.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.encoders.dinov2 import VARIANTS as ENCODERS
from farsighted_jax.encoders.dinov2 import DinoV2, variant_sizes
from farsighted_jax.encoders.dpt import DptHead
from farsighted_jax.encoders.errors import EncoderError

# Which blocks' tokens the head reads, its channels a level, and its width.
VARIANTS = {
    "vits14": {"layers": (3, 6, 9, 12), "channels": (48, 96, 192, 384), "width": 64},
    "vitb14": {"layers": (3, 6, 9, 12), "channels": (96, 192, 384, 768), "width": 128},
    "vitl14": {"layers": (5, 12, 18, 24), "channels": (256, 512, 1024, 1024), "width": 256},
}

# Largest depth of the published metric networks, metres.
METRIC_MAX_DEPTH_M = {"indoor": 20.0, "outdoor": 80.0}


class DepthAnything(nn.Module):
    """Image to depth.

    Attributes:
      encoder: its parameters stand under "encoder".
      layers: numbers of blocks after which the head reads the tokens, four of them.
      channels: see `DptHead`.
      width: see `DptHead`.
      head_width: see `DptHead`.
      max_depth_m: metres that the metric network's 1 stands for; None for the
        relative network.
    """

    encoder: DinoV2
    layers: tuple[int, ...]
    channels: tuple[int, ...]
    width: int
    head_width: int = 32
    max_depth_m: float | None = None

    def setup(self):
        """Makes the head; flax calls it."""
        if not len(self.layers) == len(self.channels) == 4:
            raise EncoderError(f"layers {self.layers} and channels {self.channels}: expected four of each")
        self.head = DptHead(
            self.channels,
            self.width,
            self.head_width,
            self.encoder.patch,
            self.encoder.dtype,
            self.encoder.param_dtype,
        )

    def __call__(self, rgb_BHWC):
        """Estimates depth.

        Args:
          rgb_BHWC: uint8[B, H, W, 3], or float[B, H, W, 3] within [0, 1]; the
            networks were trained at 518 px.

        Returns:
          depth_BHW1: float32[B, H, W, 1], metres within [0, max_depth_m]; from a
            relative network inverse depth >= 0, up to scale and shift.
          out: "layers" and what `DptHead` returns.

        Raises:
          EncoderError: see `DinoV2`.
        """
        _, encoded = self.encoder(rgb_BHWC, layers=self.layers)
        first = 1 + self.encoder.num_registers
        grid = tuple(size // self.encoder.patch for size in rgb_BHWC.shape[1:3])
        value_BHW1, out = self.head([layer[:, first:] for layer in encoded["layers"]], grid)
        out["layers"] = encoded["layers"]
        if self.max_depth_m is None:
            return nn.relu(value_BHW1), out
        return nn.sigmoid(value_BHW1) * jnp.float32(self.max_depth_m), out


def depth_anything(variant: str, max_depth_m: float | None = None, **changes: Any) -> DepthAnything:
    """A published size, "vits14", "vitb14" or "vitl14"; `changes` are attributes of its `DinoV2`.

    Raises:
      EncoderError: an unknown variant; the message names the nearest.
    """
    sizes = variant_sizes(VARIANTS, variant)
    encoder = DinoV2(**{**ENCODERS[variant], **changes})
    return DepthAnything(encoder, **sizes, max_depth_m=max_depth_m)
