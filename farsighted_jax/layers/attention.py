"""The one attention function and the multi-head attention module on top of it."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from farsighted_jax.layers import attention_kernels


def attention(q_BQAK, k_BSAK, v_BSAK, mask_BAQS=None, bias_BAQS=None, scale=None):
    """Scaled dot-product attention with a float32 softmax, by the kernel that `attention_kernels` finds.

    Args:
      q_BQAK: float[B, Q, A, K] queries.
      k_BSAK: float[B, S, A, K] keys.
      v_BSAK: float[B, S, A, K] values.
      mask_BAQS: bool[B or 1, A or 1, Q, S], True where a query may look; None
        lets every query look everywhere.
      bias_BAQS: float[B or 1, A or 1, Q, S] added to the logits after scaling.
      scale: of the logits; None is 1 / sqrt(K).

    Returns:
      float[B, Q, A, K] in the dtype of `v_BSAK`.
    """
    kernel = attention_kernels.kernel(q_BQAK, k_BSAK, mask_BAQS, bias_BAQS)
    attention_kernels.note(kernel, q_BQAK, k_BSAK, mask_BAQS)
    if kernel == attention_kernels.PLAIN:
        return jax.nn.dot_product_attention(
            q_BQAK, k_BSAK, v_BSAK, bias=bias_BAQS, mask=mask_BAQS, scale=scale
        )
    scale = q_BQAK.shape[-1] ** -0.5 if scale is None else scale
    return attention_kernels.on_each_device(kernel, q_BQAK, k_BSAK, v_BSAK, mask_BAQS, scale)


def causal_attention_over_time(q_BTSAK, k_BTSAK, v_BTSAK):
    """Each token attends to itself in its own and earlier frames.

    Frames are few and tokens many, so the token axis stays where it is and no
    large array is transposed.

    Args:
      q_BTSAK: float[B, T, S, A, K] queries.
      k_BTSAK: float[B, T, S, A, K] keys.
      v_BTSAK: float[B, T, S, A, K] values.

    Returns:
      float[B, T, S, A, K] in the dtype of `v_BTSAK`.
    """
    T, K = q_BTSAK.shape[1], q_BTSAK.shape[-1]
    attention_kernels.note(attention_kernels.OVER_TIME, q_BTSAK, k_BTSAK)
    logits_BSATR = jnp.einsum("BTSAK,BRSAK->BSATR", q_BTSAK, k_BTSAK, preferred_element_type=jnp.float32) * (
        K**-0.5
    )
    allowed_TR = jnp.tril(jnp.ones((T, T), bool))
    weights_BSATR = jax.nn.softmax(jnp.where(allowed_TR, logits_BSATR, -jnp.inf), axis=-1)
    return jnp.einsum("BSATR,BRSAK->BTSAK", weights_BSATR.astype(v_BTSAK.dtype), v_BTSAK)


class MultiHeadAttention(nn.Module):
    """Self-attention within a frame, or causally over the frames of each token.

    Attributes:
      num_heads: A; must divide the width.
      over_time: False attends over the tokens of a frame, True over time.
      dtype: of the computation; parameters are float32.
    """

    num_heads: int
    over_time: bool = False
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x_BTSD, mask_BAQS=None):
        """Maps float[B, T, S, D], or float[B, S, D] within one frame, to the same shape.

        Args:
          x_BTSD: tokens.
          mask_BAQS: see `attention`, with B * T for B; none over time.
        """
        *_, S, D = x_BTSD.shape
        heads = (*x_BTSD.shape[:-1], self.num_heads, D // self.num_heads)
        q, k, v = (
            nn.Dense(D, use_bias=False, dtype=self.dtype, name=name)(x_BTSD).reshape(heads)
            for name in ("query", "key", "value")
        )
        if self.over_time:
            out = causal_attention_over_time(q, k, v)
        else:
            folded = (-1, S, self.num_heads, D // self.num_heads)
            out = attention(q.reshape(folded), k.reshape(folded), v.reshape(folded), mask_BAQS)
        return nn.Dense(D, dtype=self.dtype, name="out")(out.reshape(x_BTSD.shape))
