"""Kernels that compute attention without keeping its weights: which one suits, and how it is called.

Keys and values are read once and no array of Q x S leaves the chip. XLA cannot divide a kernel over devices,
so each stands in a `shard_map`: batch over data and fsdp, heads over tensor.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
from collections.abc import Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from farsighted_jax.core import placement

# "plain" in this variable of the environment keeps to XLA's own operations, should a kernel fail.
SWITCH = "FARSIGHTED_ATTENTION"

SPLASH, CUDNN, PLAIN = "splash", "cudnn", "plain"
# Attention of each token over its few frames, which needs none.
OVER_TIME = "over time"

# Tokens that the TPU's kernel takes at a time, and the fewest for which padding to that is no waste.
LANES = 128
BLOCK = 512


class Call(NamedTuple):
    """One attention of a traced program.

    Attributes:
      kernel: what computes it.
      queries: shape, of the whole batch.
      keys: shape.
      mask: shape, or None without.
      dtype: of queries, keys and values.
    """

    kernel: str
    queries: tuple[int, ...]
    keys: tuple[int, ...]
    mask: tuple[int, ...] | None
    dtype: str


_noted: contextvars.ContextVar[list[Call] | None] = contextvars.ContextVar("attention_calls", default=None)


@contextlib.contextmanager
def noting() -> Iterator[list[Call]]:
    """A list that gets every attention that is traced within, layers of a scan once."""
    token = _noted.set([])
    try:
        yield _noted.get()
    finally:
        _noted.reset(token)


def note(name: str, q_BQAK, k_BSAK, mask_BAQS=None) -> None:
    """Adds a call to the list of `noting`, if there is one."""
    if (calls := _noted.get()) is not None:
        mask = None if mask_BAQS is None else tuple(mask_BAQS.shape)
        calls.append(Call(name, tuple(q_BQAK.shape), tuple(k_BSAK.shape), mask, str(q_BQAK.dtype)))


def kernel(q_BQAK, k_BSAK, mask_BAQS=None, bias_BAQS=None) -> str:
    """The kernel for these arrays on the devices that are traced for, see `core.placement`.

    Returns:
      "splash": on TPU, self-attention of 128 tokens or more in which all see all;
      "cudnn": on GPU, in 16 bit, heads of a multiple of 8 up to 128, with a mask an even number of
      tokens, without a bias that is learned; "plain": everything else, and wherever the batch is not
      divided evenly.
    """
    if os.environ.get(SWITCH, "") == PLAIN or bias_BAQS is not None:
        return PLAIN
    (B, Q, _, K), S = q_BQAK.shape, k_BSAK.shape[1]
    device = placement.platform()
    if device is None or placement.batch_axes(B) is None:
        return PLAIN
    if device == "tpu" and mask_BAQS is None and Q == S >= LANES:
        return SPLASH
    short = q_BQAK.dtype in (jnp.bfloat16, jnp.float16)
    even = mask_BAQS is None or not (Q % 2 or S % 2)
    if device == "gpu" and short and even and K % 8 == 0 and K <= 128:
        return CUDNN
    return PLAIN


def splash(q_BSAK, k_BSAK, v_BSAK, scale: float, interpret: bool = False):
    """Self-attention of all to all by the TPU's kernel; `interpret` runs it on any device, slowly."""
    S, A = q_BSAK.shape[1:3]
    block = min(-(-S // LANES) * LANES, BLOCK)
    padded = -(-S // block) * block

    def heads_first(x_BSAK):
        return jnp.swapaxes(jnp.pad(x_BSAK, ((0, 0), (0, padded - S), (0, 0), (0, 0))), 1, 2)

    each = jax.vmap(_splash_kernel(S, padded, block, A, interpret))
    out_BASK = each(heads_first(q_BSAK * scale), heads_first(k_BSAK), heads_first(v_BSAK))
    return jnp.swapaxes(out_BASK, 1, 2)[:, :S]


def _splash_kernel(num_tokens, padded, block, num_heads, interpret):
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks

    seen_SS = np.ones((padded, padded), bool)
    seen_SS[:, num_tokens:] = False  # keys of the padding; what its queries give is cut off
    return kernels.make_splash_mha(
        masks.MultiHeadMask([masks.NumpyMask(seen_SS)] * num_heads),
        block_sizes=kernels.BlockSizes(
            block_q=block, block_kv=block, block_q_dkv=block, block_kv_dkv=block, use_fused_bwd_kernel=True
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )


def cudnn(q_BQAK, k_BSAK, v_BSAK, mask_BAQS, scale: float):
    """Attention by cuDNN's kernel; a mask becomes a bias."""
    return jax.nn.dot_product_attention(
        q_BQAK, k_BSAK, v_BSAK, mask=mask_BAQS, scale=scale, implementation="cudnn"
    )


def on_each_device(name: str, q_BQAK, k_BSAK, v_BSAK, mask_BAQS, scale: float):
    """Runs a kernel on each device's part of batch and heads; arguments as `attention`'s."""
    batch, heads = placement.batch_axes(q_BQAK.shape[0]), placement.heads_axis(q_BQAK.shape[2])
    arrays, specs = [q_BQAK, k_BSAK, v_BSAK], [PartitionSpec(batch, None, heads)] * 3
    if mask_BAQS is not None:
        of = [axis if size > 1 else None for axis, size in zip((batch, heads), mask_BAQS.shape, strict=False)]
        arrays, specs = [*arrays, mask_BAQS], [*specs, PartitionSpec(*of)]

    def part(q, k, v, mask=None):
        return splash(q, k, v, scale) if name == SPLASH else cudnn(q, k, v, mask, scale)

    spread = functools.partial(jax.shard_map, in_specs=tuple(specs), out_specs=specs[0], check_vma=False)
    return spread(part)(*arrays)
