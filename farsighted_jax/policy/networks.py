"""The pretrained networks of a policy: what its context and its losses get from them. Nothing trains them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.task import FROZEN, PRETRAINED
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.pretrained.perceptual import perceptual_distance, perceptual_shapes


@dataclasses.dataclass(frozen=True)
class FrozenNetworks:
    """Which networks there are; their weights stand in `params` under `PRETRAINED`.

    Attributes:
      image_encoder: name of a DINOv2 in the table, "" for none.
      text_encoder: name of a T5 in the table, "" for none or where its vectors are stored.
      perceptual: whether predictions are compared by LPIPS.
      dtype: of their weights and of the computation.
    """

    image_encoder: str = ""
    text_encoder: str = ""
    perceptual: bool = False
    dtype: jnp.dtype = jnp.float32

    def shapes(self) -> dict[str, Any]:
        """See `core.task.Task.pretrained_shapes`."""
        names = [name for name in (self.image_encoder, self.text_encoder) if name]
        shapes = {name: MODELS[name].abstract_params(self.dtype) for name in names}
        return shapes | (perceptual_shapes(self.dtype) if self.perceptual else {})

    @property
    def token_width(self) -> int:
        """E of the tokens of the image encoder; 0 without one."""
        return self._module(self.image_encoder).width if self.image_encoder else 0

    @jax.named_scope(FROZEN)
    def frame_tokens(self, params, rgb_BHWC):
        """Tokens of single frames within [0, 1], float[B, N, E], without gradient."""
        module, weights = self._module(self.image_encoder), params[PRETRAINED][self.image_encoder]
        tokens_BNE, _ = module.apply({"params": weights}, rgb_BHWC)
        return jax.lax.stop_gradient(tokens_BNE)

    @jax.named_scope(FROZEN)
    def text_vectors(self, params, token_BL, valid_BL):
        """Vectors of texts, float[B, L, E], 0 where not valid, without gradient."""
        module, weights = self._module(self.text_encoder), params[PRETRAINED][self.text_encoder]
        return jax.lax.stop_gradient(module.apply({"params": weights}, token_BL, valid_BL))

    def perceptual_distance(self, params, predicted_BHWC, target_BHWC):
        """LPIPS of each predicted frame, float32[B], differentiable; see `pretrained.perceptual`."""
        clips = predicted_BHWC[:, None], target_BHWC[:, None]
        return perceptual_distance(params[PRETRAINED], *clips, self.dtype)[:, 0]

    def _module(self, name):
        return MODELS[name].module(dtype=self.dtype, param_dtype=self.dtype)
