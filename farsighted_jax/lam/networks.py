"""The pretrained networks of a LAM: what its encoder and its losses get from them. Nothing trains them."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.encoders.geometry import filled_depth
from farsighted_jax.encoders.pseudo_depth import aligned_depth
from farsighted_jax.losses.perceptual import lpips
from farsighted_jax.pretrained.models import MODELS

VGG, LINEAR = "vgg16", "lpips-vgg16"

# Metres. What a relative network puts further away than a room is as far as this (1/d_max of eq. 9).
NEAREST_M, FARTHEST_M = 0.05, 20.0


@dataclasses.dataclass(frozen=True)
class FrozenNetworks:
    """Which networks there are; their weights stand in `params` under `PRETRAINED`.

    Attributes:
      image_encoder: name of a DINOv2 in the table, "" where the model trains its own encoder.
      perceptual: whether predictions are compared by LPIPS.
      depth_estimator: name of a Depth Anything in the table, "" for none. It fills
        the holes of the sensor's depth.
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
            shapes |= {VGG: MODELS[VGG].abstract_params(self.dtype), LINEAR: MODELS[LINEAR].abstract_params()}
        return shapes

    @property
    def token_width(self) -> int:
        """E of the tokens of the image encoder; 0 without one."""
        return self._module(self.image_encoder).width if self.image_encoder else 0

    def encoder_inputs(self, params, inputs) -> dict[str, Any]:
        """All that `FarsightedLam.encode` gets of a batch.

        Args:
          params: parameters with those of the networks.
          inputs: keyword arguments from `objective.encoder_inputs`. With a depth
            estimator also depth_center and depth_scale, float32[B].

        Returns:
          Keyword arguments: tokens added, holes of the depth filled; without gradient.
        """
        inputs = dict(inputs)
        rgb_BTHWC = inputs["rgb_BTHWC"]
        if self.image_encoder:
            tokens_BTNE, _ = self._of_frames(self.image_encoder, params, rgb_BTHWC)
            inputs["tokens_BTNE"] = tokens_BTNE
        if self.depth_estimator:
            inputs |= self._filled_depth(
                params, rgb_BTHWC, inputs, inputs.pop("depth_center"), inputs.pop("depth_scale")
            )
        return inputs

    def _filled_depth(self, params, rgb_BTHWC, inputs, center_B, scale_B):
        """Sensor depth where it is valid, the estimate elsewhere, nothing where that has no scale.

        Relative estimates are fitted frame by frame: a fit over the clip would
        let a later frame change what the encoder sees of an earlier one.
        """
        depth, valid = inputs["depth_BTHW1"], inputs["depth_valid_BTHW1"]
        center, scale = (constant_B[:, None, None, None, None] for constant_B in (center_B, scale_B))
        estimate, _ = self._of_frames(self.depth_estimator, params, rgb_BTHWC)
        known = jnp.ones_like(valid)
        if self._module(self.depth_estimator).max_depth_m is None:
            fit = aligned_depth(estimate, jnp.exp(depth * scale + center), valid, FARTHEST_M)
            estimate, known = fit.depth_BHW1, valid | fit.fitted_B[..., None, None, None]
        estimate = (jnp.log(jnp.maximum(estimate, NEAREST_M)) - center) / scale
        filled, _ = filled_depth(depth, valid, estimate)
        return {"depth_BTHW1": jnp.where(known, filled, 0.0), "depth_valid_BTHW1": known}

    def _of_frames(self, name, params, rgb_BTHWC):
        """A network's result for each frame, with the axes B and T in front, without gradient."""
        lead = rgb_BTHWC.shape[:2]
        result, out = self._module(name).apply(
            {"params": params[PRETRAINED][name]}, rgb_BTHWC.reshape(-1, *rgb_BTHWC.shape[2:])
        )
        result = jax.lax.stop_gradient(result)
        return result.reshape(*lead, *result.shape[1:]), out

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
