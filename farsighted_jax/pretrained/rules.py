"""Rules that several tables share: how torch keeps a Linear layer, a norm, a convolution."""

from __future__ import annotations

import numpy as np

from farsighted_jax.pretrained.rename import Rule, part, transposed


def first(array: np.ndarray) -> np.ndarray:
    """Drops the leading axis of size 1 that torch keeps for broadcasting over a batch."""
    if len(array) != 1:
        raise ValueError("the leading axis should have size 1")
    return array[0]


def patch_kernel(array: np.ndarray) -> np.ndarray:
    """A strided convolution [E, C, patch, patch] as a Dense kernel over patches [patch * patch * C, E]."""
    if array.ndim != 4:
        raise ValueError("a convolution has 4 axes")
    return array.transpose(2, 3, 1, 0).reshape(-1, len(array))


def dense(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """Rules of a Linear layer."""
    return Rule(f"{theirs}.weight", f"{ours}/kernel", transposed), Rule(f"{theirs}.bias", f"{ours}/bias")


def norm(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """Rules of a LayerNorm."""
    return Rule(f"{theirs}.weight", f"{ours}/scale"), Rule(f"{theirs}.bias", f"{ours}/bias")


def fused(theirs: str, ours: tuple[str, ...]) -> tuple[Rule, ...]:
    """Rules of one Linear layer that holds several of ours, one after the other."""
    rules = []
    for index, path in enumerate(ours):
        rules.append(Rule(f"{theirs}.weight", f"{path}/kernel", part(index, len(ours), transposed)))
        rules.append(Rule(f"{theirs}.bias", f"{path}/bias", part(index, len(ours))))
    return tuple(rules)
