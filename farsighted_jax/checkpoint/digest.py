"""Content digests: a fingerprint of every array, computed where the array lies.

Each array is read as unsigned words w_i; the two digest words are
sum_i w_i * m_i mod 2^32 with odd weights m_i that depend on the position. An
odd weight is invertible mod 2^32, so any change of a single word (any flipped
bit) changes both sums; integer sums are exact in any order, so the digest does
not depend on how the array is sharded. What lies on the host is read by numpy,
which has nothing to compile; elsewhere XLA does it, and only the sums move.
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

# Words that are read at once on the host.
_PIECE = 1 << 22


def content_digests(values: Any) -> dict[str, str]:
    """Digest of each leaf, e.g. {"dense/kernel": "float32[3,4]:0123456789abcdef"}.

    Args:
      values: tree of arrays; typed random keys must have been turned into data.
    """
    flat = {path: _one_copy(leaf) for path, leaf in tree.flat_paths(values).items()}
    if not flat:
        return {}
    remote = {path: leaf for path, leaf in flat.items() if not _on_host(leaf)}
    sums = dict(zip(remote, np.asarray(_digest_words(list(remote.values()))), strict=True)) if remote else {}
    sums |= {path: _host_words(np.asarray(leaf)) for path, leaf in flat.items() if path not in remote}
    return {
        path: f"{np.dtype(leaf.dtype).name}{list(leaf.shape)}:{low:08x}{high:08x}".replace(" ", "")
        for path, leaf in flat.items()
        for low, high in [sums[path]]
    }


def tree_digest(digests: Mapping[str, str]) -> str:
    """One digest of all: SHA-256 over the sorted (path, digest) lines, 64 hex digits."""
    lines = "".join(f"{path} {digest}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _one_copy(leaf):
    """Of an array that every device holds in full, what lies here: then no device waits for another."""
    whole = isinstance(leaf, jax.Array) and leaf.is_fully_replicated
    return leaf.addressable_data(0) if whole else leaf


def _on_host(leaf):
    if not isinstance(leaf, jax.Array):
        return True
    devices = leaf.sharding.device_set
    return len(devices) == 1 and next(iter(devices)).platform == "cpu"


def _host_words(array):
    """As `_leaf_words`, a bounded piece at a time; arrays of unsigned integers wrap around as XLA's do."""
    width = 1 if array.dtype == np.bool_ else min(array.dtype.itemsize, 4)
    words = np.ascontiguousarray(array).reshape(-1).view(f"u{width}")
    totals = np.zeros(len(_SEEDS), np.uint32)
    for begin in range(0, len(words), _PIECE):
        piece = words[begin : begin + _PIECE].astype(np.uint32)
        position = np.arange(begin, begin + len(piece)).astype(np.uint32)
        totals += np.array([np.sum(piece * _weight(position, s), dtype=np.uint32) for s in _SEEDS])
    return totals


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
