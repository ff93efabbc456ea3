"""Memory of one chip: what the state takes of it, what the rest of the step does, and what would fit."""

from __future__ import annotations

import math
import re
from typing import Any

import jax

from farsighted_jax.train.state import TrainState

GIB = 2**30
# The compiler's ways to say it.
USED = (
    re.compile(r"Used ([\d.]+)([KMG]) of ([\d.]+)([KMG]) hbm"),
    re.compile(r"required[^(]*\(([\d.]+)([KMG])\) exceeds available HBM \(([\d.]+)([KMG])\)"),
)
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30}
# State of a suggested mesh: the rest is for activations.
STATE_SHARE = 0.3


def chip_bytes(tree: Any) -> int:
    """Bytes of a tree of shapes with shardings on one chip."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _itemsize(leaf.dtype)
        for leaf in jax.tree.leaves(tree)
    )


def whole_bytes(tree: Any) -> int:
    """Bytes of a tree of shapes."""
    return sum(math.prod(leaf.shape) * _itemsize(leaf.dtype) for leaf in jax.tree.leaves(tree))


def state_gib(abstract: TrainState) -> dict[str, float]:
    """GiB of a state on one chip, by what it holds."""
    parts = {
        "params_gib": abstract.params,
        "optimizer_gib": abstract.opt_state,
        "frozen_gib": abstract.frozen,
        "average_gib": abstract.ema,
        "model_state_gib": abstract.model_state,
    }
    return {name: chip_bytes(part) / GIB for name, part in parts.items()}


def peak_bytes(program: jax.stages.Compiled, simulated: bool) -> int:
    """What a compiled program needs of one chip at its peak.

    The TPU compiler says it. That of the CPU leaves something out: there, all that is allocated counts.
    """
    found = program.memory_analysis()
    if not simulated:
        return found.peak_memory_in_bytes
    held = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return held + found.temp_size_in_bytes


def overflow_bytes(message: str) -> int | None:
    """What a program needs of a chip, from the error of a compiler that found it too much.

    The TPU compiler tells apart what a program holds and the arguments it is
    given only now and then; the figure is its own.
    """
    for pattern in USED:
        if found := pattern.search(message):
            return int(float(found[1]) * UNITS[found[2]])
    return None


def largest_rows(hbm: float, peak: float, fixed: float, rows: int, other: tuple[int, float] | None) -> int:
    """Rows of a (micro-)batch on one chip that fit.

    Args:
      hbm: of the chip.
      peak: of a step with `rows`.
      fixed: what does not grow with them; used without a second measurement.
      rows: of the measurement.
      other: rows and peak of another one, if there is one; then the line through both decides.
    """
    if other and other[0] != rows:
        slope = (peak - other[1]) / (rows - other[0])
        fixed = peak - slope * rows
    else:
        slope = (peak - fixed) / rows
    return max(int((hbm - fixed) / slope), 0) if slope > 0 else rows


def suggested_fsdp(abstract: TrainState, chips_per_slice: int, hbm: float) -> int | None:
    """The fewest chips to spread the state over so that it leaves room for activations.

    Counted are parameters, their gradients, moments and average, and frozen
    networks. None: not even all chips of a slice are enough.
    """
    state = (abstract.params, abstract.params, abstract.opt_state, abstract.frozen, abstract.ema)
    total = whole_bytes(state)
    for size in range(1, chips_per_slice + 1):
        if chips_per_slice % size == 0 and total / size <= STATE_SHARE * hbm:
            return size
    return None


def _itemsize(dtype):
    return 8 if jax.dtypes.issubdtype(dtype, jax.dtypes.prng_key) else dtype.itemsize
