"""Masked sums: every loss is a sum over valid elements divided by a count that is known beforehand."""

from __future__ import annotations

import jax.numpy as jnp


def masked_sum(value, valid):
    """Sum of `value` where `valid`, in float32; what stands elsewhere, NaN included, has no influence."""
    return jnp.sum(jnp.where(valid, value.astype(jnp.float32), 0.0))


def safe_ratio(total, count):
    """`total / count`, 0 where nothing was counted."""
    return total / jnp.maximum(count, 1.0)


def weighted_mean(value, valid, count):
    """Masked sum over a given count: micro-batches of one step share the count and add up."""
    return safe_ratio(masked_sum(value, valid), count)
