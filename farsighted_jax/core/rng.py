"""Random keys by name and step, so that adding a consumer never shifts another's stream."""

from __future__ import annotations

import zlib

import jax


def named_key(key: jax.Array, name: str) -> jax.Array:
    """A key for one named use ("init", "dropout", "restart")."""
    return jax.random.fold_in(key, zlib.crc32(name.encode()))


def step_key(key: jax.Array, step) -> jax.Array:
    """A key for one training step; `step` may be traced."""
    return jax.random.fold_in(key, step)


def sample_keys(key: jax.Array, sample_B: jax.Array) -> jax.Array:
    """One key a sample, by its index in the global batch.

    Randomness that is drawn with these does not depend on how a batch is split
    over devices or micro-batches.
    """
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(sample_B)
