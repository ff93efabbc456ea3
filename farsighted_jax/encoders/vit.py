"""The transformer block of DINOv2: pre-norm, biased attention, LayerScale, GELU or SwiGLU."""

from __future__ import annotations

import functools

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.core.placement import spread
from farsighted_jax.layers.attention import attention

EPSILON = 1e-6


def swiglu_width(width: int, expansion: int) -> int:
    """F of a SwiGLU with as many parameters as a plain feed-forward part: two thirds, a multiple of 8."""
    return (int(width * expansion * 2 / 3) + 7) // 8 * 8


def layer_norm(name: str, dtype, param_dtype) -> nn.LayerNorm:
    """A norm that computes in float32; a few channels are so large that E[x^2] - E[x]^2 would cancel."""
    return nn.LayerNorm(
        epsilon=EPSILON, use_fast_variance=False, dtype=dtype, param_dtype=param_dtype, name=name
    )


class VisionAttention(nn.Module):
    """Multi-head self-attention with biases.

    Attributes:
      num_heads: A; divides the width.
      dtype: of the computation; the softmax is float32.
      param_dtype: of the parameters.
    """

    num_heads: int
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BSE):
        """Maps float[B, S, E] to the same shape."""
        B, S, E = x_BSE.shape
        dense = functools.partial(nn.Dense, E, dtype=self.dtype, param_dtype=self.param_dtype)
        q, k, v = (
            dense(name=name)(x_BSE).reshape(B, S, self.num_heads, E // self.num_heads)
            for name in ("query", "key", "value")
        )
        return dense(name="out")(attention(q, k, v).reshape(x_BSE.shape))


class VisionMlp(nn.Module):
    """Dense, exact GELU, Dense; or the gated SwiGLU.

    Attributes:
      expansion: F / E before the reduction of a SwiGLU.
      swiglu: which of the two.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    expansion: int = 4
    swiglu: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BSE):
        """Maps float[..., E] to the same shape."""
        E = x_BSE.shape[-1]
        dense = functools.partial(nn.Dense, dtype=self.dtype, param_dtype=self.param_dtype)
        if self.swiglu:
            F = swiglu_width(E, self.expansion)
            hidden_BSF = nn.silu(dense(F, name="gate")(x_BSE)) * dense(F, name="up")(x_BSE)
        else:
            hidden_BSF = nn.gelu(dense(self.expansion * E, name="up")(x_BSE), approximate=False)
        return dense(E, name="down")(hidden_BSF)


class VisionBlock(nn.Module):
    """Attention and feed-forward part, each scaled per channel before it is added.

    Attributes:
      num_heads: A.
      expansion: see `VisionMlp`.
      swiglu: see `VisionMlp`.
      dtype: of the computation.
      param_dtype: of the parameters.
    """

    num_heads: int
    expansion: int = 4
    swiglu: bool = False
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BSE):
        """Maps float[B, S, E] to the same shape."""
        dtypes = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        x_BSE = spread(x_BSE)
        attend = VisionAttention(self.num_heads, **dtypes, name="attention")
        mix = VisionMlp(self.expansion, self.swiglu, **dtypes, name="mlp")
        for part, name in ((attend, "attention"), (mix, "mlp")):
            scale_E = self.param(
                f"{name}_scale", nn.initializers.ones_init(), x_BSE.shape[-1:], self.param_dtype
            )
            x_BSE = x_BSE + part(layer_norm(f"{name}_norm", **dtypes)(x_BSE)) * scale_E.astype(self.dtype)
        return x_BSE
