"""Low-rank adapters: frozen kernels that get the product of two small trained matrices added.

A pure function over the tree of parameters: no module knows of it, and what it
returns are the parameters of the model as if they had been trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core import tree
from farsighted_jax.core.rng import named_key
from farsighted_jax.core.task import WEIGHTS_ALONE

# Under this name the adapters stand in the parameters, below the path of their kernel as `a` and `b`.
ADAPTERS = "adapters"


def initial_adapters(key: jax.Array, params: Mapping[str, Any], patterns: Sequence[str], rank: int):
    """Adapters of the kernels that a pattern is found in; their products are zero.

    Args:
      key: one key.
      params: parameters without adapters.
      patterns: regular expressions, searched in "/"-joined paths.
      rank: columns of `a` and rows of `b`.

    Returns:
      {path: {"a": float32[..., in, rank], "b": float32[..., rank, out]}}, nested; the
      axes in front, of scanned layers, are those of the kernel.

    Raises:
      TreeError: no kernel matches.
    """
    kernels = {
        path: leaf
        for path, leaf in tree.flat_paths(params).items()
        if path.endswith("kernel") and leaf.ndim >= 2 and tree.matches(path, patterns)
    }
    if not kernels:
        raise tree.TreeError(f"patterns {list(patterns)} match no kernel that an adapter could be added to")
    flat = {}
    for path, kernel in kernels.items():
        *layers, width_in, width_out = kernel.shape
        a = jax.random.normal(named_key(key, path), (*layers, width_in, rank)) * width_in**-0.5
        flat |= {f"{path}/a": a, f"{path}/b": jnp.zeros((*layers, rank, width_out))}
    return tree.nested(flat)


@jax.named_scope(WEIGHTS_ALONE)
def adapted(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters with each adapter's a @ b added to its kernel, and without the adapters."""
    params = dict(params)
    factors = tree.flat_paths(params.pop(ADAPTERS, {}))

    def effective(path, leaf):
        if f"{path}/a" not in factors:
            return leaf
        return leaf + (factors[f"{path}/a"] @ factors[f"{path}/b"]).astype(leaf.dtype)

    return tree.map_with_path(effective, params) if factors else params
