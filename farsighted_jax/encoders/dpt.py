"""The DPT head: tokens of four depths of a vision transformer become one dense map."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.encoders.resize import resized
from farsighted_jax.layers.patches import unpatchify

# Size of each level's map in patches; 0.5 is a convolution of stride 2.
FACTORS = (4, 2, 1, 0.5)


def _conv(features, name, dtype, param_dtype, **options):
    # Padded on both sides as torch does: "SAME" with stride 2 would pad the far side alone.
    padding = ((1, 1), (1, 1))
    return nn.Conv(
        features, (3, 3), padding=padding, dtype=dtype, param_dtype=param_dtype, name=name, **options
    )


class Enlarge(nn.Module):
    """A transposed convolution whose stride is its size: each cell becomes factor x factor cells.

    Attributes:
      factor: see above.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    factor: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BYXD):
        """Maps float[B, Y, X, D] to float[B, factor * Y, factor * X, D]."""
        B, Y, X, D = x_BYXD.shape
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        cells = nn.Dense(self.factor**2 * D, use_bias=False, **dtypes, name="cells")(x_BYXD)
        bias_D = self.param("bias", nn.initializers.zeros_init(), (D,), self.param_dtype)
        return unpatchify(cells.reshape(B, Y * X, -1), Y, X, self.factor) + bias_D.astype(self.dtype)


class ResidualUnit(nn.Module):
    """Two convolutions, each after a ReLU, added to their input.

    Attributes:
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BYXD):
        """Maps float[B, Y, X, D] to the same shape."""
        hidden = x_BYXD
        for name in ("conv_1", "conv_2"):
            conv = _conv(x_BYXD.shape[-1], name, self.dtype, self.param_dtype)
            hidden = conv(nn.relu(hidden))
        return x_BYXD + hidden


class Fusion(nn.Module):
    """Adds a level to what came from the coarser ones, and brings the sum to the next level's size.

    Attributes:
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, level_BYXD, coarser_BYXD, size: tuple[int, int]):
        """Fuses.

        Args:
          level_BYXD: float[B, Y, X, D].
          coarser_BYXD: float[B, Y, X, D], or None at the coarsest level.
          size: rows and columns of the result.

        Returns:
          float[B, *size, D].
        """
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x = level_BYXD
        if coarser_BYXD is not None:
            x = coarser_BYXD + ResidualUnit(**dtypes, name="level")(level_BYXD)
        x = ResidualUnit(**dtypes, name="fused")(x)
        x = resized(x, *size, "linear", align_corners=True)
        return nn.Dense(x.shape[-1], **dtypes, name="project")(x)


class DptHead(nn.Module):
    """Tokens of four depths to one value a pixel, before the last activation.

    Attributes:
      channels: of the four levels, finest first.
      width: D of the fused maps, even.
      head_width: channels before the last layer.
      patch: pixels a patch.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    channels: tuple[int, ...]
    width: int
    head_width: int = 32
    patch: int = 14
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, layers, grid: tuple[int, int]):
        """Maps four float[B, N, E] to a dense map.

        Args:
          layers: patch tokens float[B, N, E], shallowest first.
          grid: patch rows and columns.

        Returns:
          value_BHW1: float32[B, H, W, 1], not bounded.
          out: "levels" and "fused", the maps of every level, finest first.
        """
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        levels = []
        for index, tokens_BNE in enumerate(layers):
            level = self._level(index, tokens_BNE, grid)
            levels.append(_conv(self.width, f"neck_{index}", use_bias=False, **dtypes)(level))
        fused = None
        maps = []
        for index in reversed(range(len(levels))):
            # The finest level has no next one: its size doubles.
            Y, X = levels[index].shape[1:3]
            size = levels[index - 1].shape[1:3] if index else (2 * Y, 2 * X)
            fused = Fusion(**dtypes, name=f"fuse_{index}")(levels[index], fused, size)
            maps.insert(0, fused)
        out = {"levels": tuple(levels), "fused": tuple(maps)}
        return self._dense_map(fused, [size * self.patch for size in grid]), out

    def _level(self, index, tokens_BNE, grid):
        """Tokens as a map of the size and channels of a level."""
        channels, factor = self.channels[index], FACTORS[index]
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x_BYXD = nn.Dense(channels, **dtypes, name=f"project_{index}")(tokens_BNE)
        x_BYXD = x_BYXD.reshape(len(x_BYXD), *grid, channels)
        if factor > 1:
            return Enlarge(factor, **dtypes, name=f"enlarge_{index}")(x_BYXD)
        if factor < 1:
            return _conv(channels, f"shrink_{index}", **dtypes, strides=(2, 2))(x_BYXD)
        return x_BYXD

    def _dense_map(self, fused_BYXD, size):
        conv = functools.partial(_conv, dtype=self.dtype, param_dtype=self.param_dtype)
        x = conv(self.width // 2, "conv_1")(fused_BYXD)
        x = resized(x, *size, "linear", align_corners=True)
        x = nn.relu(conv(self.head_width, "conv_2")(x))
        # The value itself is float32: in bfloat16 it would have some hundred steps.
        return nn.Dense(1, dtype=jnp.float32, param_dtype=self.param_dtype, name="value")(x)
