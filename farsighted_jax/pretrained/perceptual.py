"""LPIPS with the networks of the table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.task import PERCEPTUAL
from farsighted_jax.losses.perceptual import lpips
from farsighted_jax.pretrained.models import MODELS

VGG, LINEAR = "vgg16", "lpips-vgg16"


def perceptual_shapes(dtype: jnp.dtype) -> dict[str, Any]:
    """Shapes of its networks by name; those of the weights a channel are float32 whatever `dtype` is."""
    return {VGG: MODELS[VGG].abstract_params(dtype), LINEAR: MODELS[LINEAR].abstract_params()}


@jax.named_scope(PERCEPTUAL)
def perceptual_distance(networks: Mapping[str, Any], predicted_BtHWC, target_BtHWC, dtype: jnp.dtype):
    """LPIPS of each predicted frame, float32[B, t], differentiable; see `losses.perceptual.lpips`.

    Args:
      networks: name -> parameters.
      predicted_BtHWC: float[B, t, H, W, 3] within [0, 1].
      target_BtHWC: float[B, t, H, W, 3] within [0, 1].
      dtype: of the network's computation.
    """
    features = MODELS[VGG].module(dtype=dtype, param_dtype=dtype)
    return lpips(
        predicted_BtHWC,
        target_BtHWC,
        lambda weights, rgb_BHWC: features.apply({"params": weights}, rgb_BHWC),
        networks[VGG],
        MODELS[LINEAR].module().apply({"params": networks[LINEAR]}),
    )
