"""The pretrained networks of a LAM: what its encoder and its losses get from them. Nothing trains them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.losses.perceptual import lpips
from farsighted_jax.pretrained.models import MODELS

VGG, LINEAR = "vgg16", "lpips-vgg16"


@dataclasses.dataclass(frozen=True)
class FrozenNetworks:
    """Which networks there are; their weights stand in `params` under `PRETRAINED`.

    Attributes:
      image_encoder: name of a DINOv2 in the table, "" where the model trains its own encoder.
      perceptual: whether predictions are compared by LPIPS.
      dtype: of their weights and of the computation; LPIPS' weights a channel and
        its distances are float32.
    """

    image_encoder: str = ""
    perceptual: bool = False
    dtype: jnp.dtype = jnp.float32

    def shapes(self) -> dict[str, Any]:
        """See `core.task.Task.pretrained_shapes`."""
        names = [self.image_encoder] if self.image_encoder else []
        shapes = {name: MODELS[name].abstract_params(self.dtype) for name in names}
        if self.perceptual:
            shapes |= {VGG: MODELS[VGG].abstract_params(self.dtype), LINEAR: MODELS[LINEAR].abstract_params()}
        return shapes

    @property
    def token_width(self) -> int:
        """E of the tokens of the image encoder; 0 without one."""
        return self._module(self.image_encoder).width if self.image_encoder else 0

    def encoder_inputs(self, params, rgb_BTHWC) -> dict[str, Any]:
        """What `FarsightedLam.encode` gets of them.

        Args:
          params: parameters with those of the networks.
          rgb_BTHWC: float[B, T, H, W, 3] within [0, 1].

        Returns:
          Keyword arguments, without gradient; {} where there is no network.
        """
        if not self.image_encoder:
            return {}
        B, T = rgb_BTHWC.shape[:2]
        network = self._module(self.image_encoder)
        tokens, _ = network.apply(
            {"params": params[PRETRAINED][self.image_encoder]}, rgb_BTHWC.reshape(B * T, *rgb_BTHWC.shape[2:])
        )
        return {"tokens_BTNE": jax.lax.stop_gradient(tokens.reshape(B, T, *tokens.shape[1:]))}

    def perceptual_distance(self, params, predicted_BtHWC, target_BtHWC):
        """LPIPS of each predicted frame, float32[B, t], differentiable; see `losses.perceptual.lpips`."""
        features, networks = self._module(VGG), params[PRETRAINED]
        return lpips(
            predicted_BtHWC,
            target_BtHWC,
            lambda weights, rgb_BHWC: features.apply({"params": weights}, rgb_BHWC),
            networks[VGG],
            MODELS[LINEAR].module().apply({"params": networks[LINEAR]}),
        )

    def _module(self, name):
        return MODELS[name].module(dtype=self.dtype, param_dtype=self.dtype)
