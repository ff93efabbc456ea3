"""Content digests: a fingerprint of every array, computed where the array lies.

Each array is read as unsigned words w_i; the two digest words are
sum_i w_i * m_i mod 2^32 with odd weights m_i that depend on the position. An
odd weight is invertible mod 2^32, so any change of a single word (any flipped
bit) changes both sums; integer sums are exact in any order, so the digest does
not depend on how the array is sharded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from farsighted_jax.core import tree

_SEEDS = (0x9E3779B9, 0x85EBCA6B)


def content_digests(values: Any) -> dict[str, str]:
    """Digest of each leaf, e.g. {"dense/kernel": "float32[3,4]:0123456789abcdef"}.

    Args:
      values: tree of arrays; typed random keys must have been turned into data.
    """
    flat = tree.flat_paths(values)
    if not flat:
        return {}
    sums = np.asarray(_digest_words(list(flat.values())))
    return {
        path: f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}:{low:08x}{high:08x}".replace(" ", "")
        for (path, leaf), (low, high) in zip(flat.items(), sums, strict=True)
    }


def tree_digest(digests: Mapping[str, str]) -> str:
    """One digest of all: SHA-256 over the sorted (path, digest) lines, 64 hex digits."""
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


@jax.jit
def _digest_words(leaves):
    return jnp.stack([_leaf_words(jnp.asarray(leaf)) for leaf in leaves])


def _leaf_words(leaf):
    words = _unsigned(leaf)
    position = jnp.zeros(words.shape, jnp.uint32)
    for axis, size in enumerate(words.shape):
        position = position * np.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, words.shape, axis)
    return jnp.stack([jnp.sum(words * _weight(position, seed), dtype=jnp.uint32) for seed in _SEEDS])


def _unsigned(leaf):
    if leaf.dtype == jnp.bool_:
        return leaf.astype(jnp.uint32)
    if jnp.issubdtype(leaf.dtype, jnp.complexfloating):
        leaf = jnp.stack([leaf.real, leaf.imag], axis=-1)
    width = leaf.dtype.itemsize
    target = {1: jnp.uint8, 2: jnp.uint16}.get(width, jnp.uint32)
    return jax.lax.bitcast_convert_type(leaf, target).astype(jnp.uint32)


def _weight(position, seed):
    """An odd weight for each position: MurmurHash3's 32-bit finaliser, lowest bit set."""
    mixed = position + np.uint32(seed)
    mixed = (mixed ^ (mixed >> 16)) * np.uint32(0x85EBCA6B)
    mixed = (mixed ^ (mixed >> 13)) * np.uint32(0xC2B2AE35)
    return (mixed ^ (mixed >> 16)) | np.uint32(1)
