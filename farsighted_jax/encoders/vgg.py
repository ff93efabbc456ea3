"""VGG16 features for LPIPS (arXiv 1409.1556): the convolutions up to relu5_3."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.core.placement import spread
from farsighted_jax.encoders.errors import EncoderError

# Convolutions a stage; each stage but the first starts with a pooling by 2.
STAGES = (2, 2, 3, 3, 3)
WIDTHS = (64, 128, 256, 512, 512)
SMALLEST = 2 ** (len(STAGES) - 1)


class Vgg16Features(nn.Module):
    """The last activations of each stage: relu1_2, relu2_2, relu3_3, relu4_3 and relu5_3.

    Attributes:
      widths: channels of each stage.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    widths: tuple[int, ...] = WIDTHS
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, rgb_BHWC):
        """Computes the features.

        Args:
          rgb_BHWC: float[B, H, W, 3] images, normalised as the weights expect
            (`losses.perceptual.lpips` does so).

        Returns:
          One float[B, Y, X, E] a stage in `dtype`; rows and columns halve, rounded down.

        Raises:
          EncoderError: an image of another rank or channels, or too small for the last stage.
        """
        if rgb_BHWC.ndim != 4 or rgb_BHWC.shape[-1] != 3 or min(rgb_BHWC.shape[1:3]) < SMALLEST:
            raise EncoderError(
                f"expected images [B, H, W, 3] of at least {SMALLEST}x{SMALLEST} px, "
                f"found shape {list(rgb_BHWC.shape)}"
            )
        x, taps = spread(rgb_BHWC.astype(self.dtype)), []
        for stage, (num_convolutions, width) in enumerate(zip(STAGES, self.widths, strict=True), start=1):
            if stage > 1:
                x = nn.max_pool(x, (2, 2), (2, 2))
            for index in range(1, num_convolutions + 1):
                convolution = nn.Conv(
                    width,
                    (3, 3),
                    padding=1,
                    dtype=self.dtype,
                    param_dtype=self.param_dtype,
                    name=f"conv{stage}_{index}",
                )
                x = spread(nn.relu(convolution(x)))
            taps.append(x)
        return taps


class LpipsWeights(nn.Module):
    """The learned weights of LPIPS: one non-negative number a channel of each stage.

    Attributes:
      widths: channels of each stage.
      dtype: of the result.
      param_dtype: of the parameters.
    """

    widths: tuple[int, ...] = WIDTHS
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self):
        """Returns one float[E] a stage, as `losses.perceptual.lpips` takes them."""
        ones = nn.initializers.ones_init()
        return [
            self.param(f"stage{stage}_scale", ones, (width,), self.param_dtype).astype(self.dtype)
            for stage, width in enumerate(self.widths, start=1)
        ]
