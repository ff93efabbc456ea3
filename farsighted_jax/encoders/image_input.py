"""What a frozen image encoder sees of an image: size and scale."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np

from farsighted_jax.encoders.errors import EncoderError
from farsighted_jax.encoders.resize import resized

# Of ImageNet's training set; DINOv2 and Depth Anything were trained with them.
MEAN_RGB = np.array([0.485, 0.456, 0.406], np.float32)
STD_RGB = np.array([0.229, 0.224, 0.225], np.float32)


def normalized_rgb(rgb_BHWC):
    """Centres and scales colours with the constants of ImageNet.

    Args:
      rgb_BHWC: uint8[..., H, W, 3], or float[..., H, W, 3] within [0, 1].

    Returns:
      float32[..., H, W, 3].

    Raises:
      EncoderError: not three channels, or another dtype.
    """
    is_bytes = rgb_BHWC.dtype == jnp.uint8
    if rgb_BHWC.shape[-1] != 3 or not (is_bytes or jnp.issubdtype(rgb_BHWC.dtype, jnp.floating)):
        raise EncoderError(
            f"expected an image uint8[..., H, W, 3] or float[..., H, W, 3] within [0, 1], "
            f"found {rgb_BHWC.dtype}{list(rgb_BHWC.shape)}"
        )
    rgb_BHWC = rgb_BHWC.astype(jnp.float32) / (255.0 if is_bytes else 1.0)
    return (rgb_BHWC - MEAN_RGB) / STD_RGB


def resized_rgb(rgb_BHWC, height: int, width: int):
    """Resizes as the reference image processors do: bicubic, antialiased.

    Theirs hold bytes after the columns and again after the rows, and so cut
    what overshoots an edge twice. So do we, but without rounding, so that a
    reconstruction can be resized and differentiated.

    Args:
      rgb_BHWC: uint8[..., H, W, 3], or float[..., H, W, 3] within [0, 1].
      height: rows wanted, for a vision transformer a multiple of its patch.
      width: columns wanted, likewise.

    Returns:
      float32[..., height, width, 3] within [0, 1].
    """
    scale = 255.0 if rgb_BHWC.dtype == jnp.uint8 else 1.0
    rgb_BHWC = jnp.asarray(rgb_BHWC, jnp.float32) / scale
    for size in ((rgb_BHWC.shape[-3], width), (height, width)):
        rgb_BHWC = jnp.clip(resized(rgb_BHWC, *size, "cubic", antialias=True), 0.0, 1.0)
    return rgb_BHWC
