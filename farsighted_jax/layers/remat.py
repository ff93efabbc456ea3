"""Rematerialisation by name: what of a block the backward pass computes again rather than keeping it."""

from __future__ import annotations

import flax.linen as nn
import jax

NONE = "none"

# What is kept of a block, beside its input: all of it; nothing; the results of matrix products with weights.
# The last leaves norms, activations and attention to be computed again: little arithmetic, much memory.
POLICIES = {
    NONE: None,
    "full": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


def rematerialised(block: type[nn.Module], remat: str, unrolled: bool = False) -> type[nn.Module]:
    """The type of a block that is scanned, with what its backward pass computes again.

    Args:
      block: a linen module; its parameters keep their names.
      remat: key of `POLICIES`.
      unrolled: whether the scan is no loop, so that a compiler could merge the second computation with
        the first, and keep everything after all.
    """
    if remat == NONE:
        return block
    return nn.remat(block, policy=POLICIES[remat], prevent_cse=unrolled)
