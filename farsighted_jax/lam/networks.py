"""The pretrained networks of a LAM: what its encoder and its losses get from them. Nothing trains them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.batch import float_rgb
from farsighted_jax.core.task import FROZEN, PRETRAINED
from farsighted_jax.encoders.geometry import filled_depth, relative_clips
from farsighted_jax.encoders.pseudo_depth import aligned_depth, relative_depth
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.pretrained.perceptual import perceptual_distance, perceptual_shapes

# What `objective.encoder_inputs` gives of measured depth.
MEASURED = ("depth_BTHW1", "depth_valid_BTHW1", "depth_center", "depth_scale")

# Metres. What a relative network puts further away than a room is as far as this (1/d_max of eq. 9).
NEAREST_M, FARTHEST_M = 0.05, 20.0


@dataclasses.dataclass(frozen=True)
class FrozenNetworks:
    """Which networks there are; their weights stand in `params` under `PRETRAINED`.

    Attributes:
      image_encoder: name of a DINOv2 in the table, "" where the model trains its own encoder.
      perceptual: whether predictions are compared by LPIPS.
      depth_estimator: name of a Depth Anything in the table, "" for none. It fills
        the holes of the sensor's depth; of clips without any it is all the depth there is.
      dtype: of their weights and of the computation; LPIPS' weights a channel and
        its distances are float32.
    """

    image_encoder: str = ""
    perceptual: bool = False
    depth_estimator: str = ""
    dtype: jnp.dtype = jnp.float32

    def shapes(self) -> dict[str, Any]:
        """See `core.task.Task.pretrained_shapes`."""
        names = [name for name in (self.image_encoder, self.depth_estimator) if name]
        shapes = {name: MODELS[name].abstract_params(self.dtype) for name in names}
        if self.perceptual:
            shapes |= perceptual_shapes(self.dtype)
        return shapes

    @property
    def token_width(self) -> int:
        """E of the tokens of the image encoder; 0 without one."""
        return self._module(self.image_encoder).width if self.image_encoder else 0

    @property
    def depth_is_relative(self) -> bool:
        """Whether the depth estimator knows no metres; False without one."""
        return bool(self.depth_estimator) and self._module(self.depth_estimator).max_depth_m is None

    @jax.named_scope(FROZEN)
    def encoder_inputs(self, params, inputs) -> dict[str, Any]:
        """All that `FarsightedLam.encode` gets of a batch.

        Args:
          params: parameters with those of the networks.
          inputs: keyword arguments from `objective.encoder_inputs`. With a depth
            estimator also depth_center and depth_scale, float32[B], or no depth at all. With stored
            tokens the image encoder does not run.

        Returns:
          Keyword arguments: tokens added, depth estimated where none was measured, and with a
          relative network which clips have relative depth; without gradient.
        """
        inputs = dict(inputs)
        rgb_BTHWC = inputs["rgb_BTHWC"]
        if self.image_encoder and "tokens_BTNE" not in inputs:
            inputs["tokens_BTNE"], _ = self._of_frames(self.image_encoder, params, rgb_BTHWC)
        if self.depth_estimator:
            estimate_BTHW1, _ = self._of_frames(self.depth_estimator, params, rgb_BTHWC)
            measured = {name: inputs.pop(name) for name in MEASURED if name in inputs}
            if self.depth_is_relative:
                inputs |= self._of_either_kind(estimate_BTHW1, **measured)
            else:
                inputs |= self._filled_depth(estimate_BTHW1, **(measured or _unmeasured(estimate_BTHW1)))
        return inputs

    def tokens(self, params, rgb_BHWC):
        """Tokens of frames uint8[B, H, W, 3] by the image encoder, float[B, N, E], without gradient."""
        tokens_BTNE, _ = self._of_frames(self.image_encoder, params, float_rgb(rgb_BHWC)[:, None])
        return tokens_BTNE[:, 0]

    def _of_either_kind(self, estimate_BTHW1, **measured):
        """Relative depth in clips without measured depth in frame 0, metric depth in the others.

        The two are never mixed within a clip: what a sensor measured later in a
        relative clip is left out, as an estimate without scale is in a metric one.
        """
        depth_BTHW1, known_BTHW1 = relative_depth(estimate_BTHW1)
        relative = {"depth_BTHW1": depth_BTHW1, "depth_valid_BTHW1": known_BTHW1}
        if not measured:
            return relative | {"depth_relative_B": jnp.ones(len(depth_BTHW1), bool)}
        metric = self._filled_depth(estimate_BTHW1, **measured)
        relative_B = relative_clips(measured["depth_valid_BTHW1"])
        relative_B1111 = relative_B[:, None, None, None, None]
        chosen = {name: jnp.where(relative_B1111, relative[name], metric[name]) for name in relative}
        return chosen | {"depth_relative_B": relative_B}

    def _filled_depth(self, estimate_BTHW1, depth_BTHW1, depth_valid_BTHW1, depth_center, depth_scale):
        """Sensor depth where it is valid, the estimate elsewhere, nothing where that has no scale.

        Relative estimates are fitted frame by frame: a fit over the clip would
        let a later frame change what the encoder sees of an earlier one.
        """
        center, scale = (constant_B[:, None, None, None, None] for constant_B in (depth_center, depth_scale))
        known_BTHW1 = jnp.ones_like(depth_valid_BTHW1)
        if self.depth_is_relative:
            sensor_m = jnp.exp(depth_BTHW1 * scale + center)
            fit = aligned_depth(estimate_BTHW1, sensor_m, depth_valid_BTHW1, FARTHEST_M)
            known_BTHW1 = depth_valid_BTHW1 | fit.fitted_B[..., None, None, None]
            estimate_BTHW1 = fit.depth_BHW1
        estimate_BTHW1 = (jnp.log(jnp.maximum(estimate_BTHW1, NEAREST_M)) - center) / scale
        filled_BTHW1, _ = filled_depth(depth_BTHW1, depth_valid_BTHW1, estimate_BTHW1)
        return {
            "depth_BTHW1": jnp.where(known_BTHW1, filled_BTHW1, 0.0),
            "depth_valid_BTHW1": known_BTHW1,
        }

    def _of_frames(self, name, params, rgb_BTHWC):
        """A network's result for each frame, with the axes B and T in front, without gradient."""
        lead = rgb_BTHWC.shape[:2]
        result, out = self._module(name).apply(
            {"params": params[PRETRAINED][name]}, rgb_BTHWC.reshape(-1, *rgb_BTHWC.shape[2:])
        )
        result = jax.lax.stop_gradient(result)
        return result.reshape(*lead, *result.shape[1:]), out

    def perceptual_distance(self, params, predicted_BtHWC, target_BtHWC):
        """LPIPS of each predicted frame, float32[B, t], differentiable; see `pretrained.perceptual`."""
        return perceptual_distance(params[PRETRAINED], predicted_BtHWC, target_BtHWC, self.dtype)

    def _module(self, name):
        return MODELS[name].module(dtype=self.dtype, param_dtype=self.dtype)


def token_bits(token_BNE):
    """Tokens as they are stored, uint16[...]: the bits of the nearest bfloat16."""
    return jax.lax.bitcast_convert_type(token_BNE.astype(jnp.bfloat16), jnp.uint16)


def stored_tokens(bits_BTNE, dtype: jnp.dtype):
    """Inverse of `token_bits`."""
    return jax.lax.bitcast_convert_type(bits_BTNE, jnp.bfloat16).astype(dtype)


def _unmeasured(like_BTHW1):
    """Nothing measured, and constants that leave log metres as they are: no dataset gave others."""
    num = len(like_BTHW1)
    values = (jnp.zeros_like(like_BTHW1), jnp.zeros(like_BTHW1.shape, bool), jnp.zeros(num), jnp.ones(num))
    return dict(zip(MEASURED, values, strict=True))
