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
    return conv_kernel(array).reshape(-1, len(array))


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


def conv(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """Rules of a Conv2d; the first is that of the weight."""
    return Rule(f"{theirs}.weight", f"{ours}/kernel", conv_kernel), Rule(f"{theirs}.bias", f"{ours}/bias")


def pointwise(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """Rules of a Conv2d of size 1, which is a Dense here."""
    return Rule(f"{theirs}.weight", f"{ours}/kernel", pointwise_kernel), Rule(
        f"{theirs}.bias", f"{ours}/bias"
    )


def conv_kernel(array: np.ndarray) -> np.ndarray:
    """A convolution [out, in, height, width] as [height, width, in, out]."""
    return _with_axes(array, 4).transpose(2, 3, 1, 0)


def pointwise_kernel(array: np.ndarray) -> np.ndarray:
    """A convolution [out, in, 1, 1] as the kernel of a Dense [in, out]."""
    if _with_axes(array, 4).shape[2:] != (1, 1):
        raise ValueError("expected a convolution of size 1 x 1")
    return array[:, :, 0, 0].T


def enlarging_kernel(array: np.ndarray) -> np.ndarray:
    """A transposed convolution [in, out, f, f] of stride f as the kernel of a Dense [in, f * f * out]."""
    return _with_axes(array, 4).transpose(0, 2, 3, 1).reshape(len(array), -1)


def _with_axes(array, count):
    if array.ndim != count:
        raise ValueError(f"expected {count} axes")
    return array
