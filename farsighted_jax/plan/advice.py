"""What follows from a plan: a batch that fits, a mesh to try, what to change."""

from __future__ import annotations

from typing import Any

from farsighted_jax.plan import memory
from farsighted_jax.plan.topology import Topology
from farsighted_jax.train.state import TrainState

# By `model.remat`: what keeps less of each block for the backward pass.
_FULL = "--config.model.remat=full: nothing of a block is kept for the backward pass, all is computed again"
_DOTS = "--config.model.remat=dots: all of a block but its products with weights is computed again"
REMAT = {"none": (_DOTS, _FULL), "dots": (_FULL,)}


def batch(step, hbm: float, rows: int, pieces: int, other: tuple[int, float] | None) -> dict[str, Any]:
    """The largest batch that might fit, and how that was found.

    Args:
      step: `planner.CompiledStep` with `rows` samples on a chip.
      hbm: bytes of a chip.
      rows: see `step`.
      pieces: chips the batch is spread over, times accumulation.
      other: (rows, peak) of a second compilation, or None.
    """
    if step.peak_bytes is None:
        return {
            "largest_batch_estimate": None,
            "largest_batch_by": "the compiler does not say how much it needs",
        }
    # Gradients are as large as parameters.
    fixed = sum(memory.state_gib(step.abstract).values()) * memory.GIB + memory.chip_bytes(
        step.abstract.params
    )
    found = memory.largest_rows(hbm, step.peak_bytes, fixed, rows, other)
    by = (
        f"the line through two compilations, of {rows} and {other[0]} samples a chip"
        if other
        else "one compilation: all but state and gradients taken to grow with the batch"
    )
    return {"largest_batch_estimate": found * pieces, "largest_batch_by": by}


def mesh(abstract: TrainState, wanted: Topology) -> dict[str, int] | None:
    """As few chips a replica as leave two thirds of the memory to activations; a rule, not compiled."""
    size = memory.suggested_fsdp(abstract, wanted.chips_per_slice, wanted.facts.hbm_gib * memory.GIB)
    return None if size is None else {"data": wanted.num_chips // size, "fsdp": size, "tensor": 1}


def changes(config, document: dict[str, Any], rows: int) -> list[str]:
    """What would make a step fit, the cheapest first."""
    lines, suggested = [], document["suggested_mesh"]
    if suggested is None:
        lines.append("the state alone fills the chips: take more of them, or larger ones")
    elif suggested["fsdp"] > document["mesh"]["fsdp"] * document["mesh"]["tensor"]:
        lines.append(f"--config.mesh.fsdp={suggested['fsdp']}: the state is spread over more chips")
    lines += REMAT.get(config.model.get("remat"), ())
    if rows > 1:
        lines.append(
            f"--config.optimizer.accumulation={2 * config.optimizer.accumulation}: the batch in more pieces"
        )
    smaller = document["largest_batch_estimate"]
    if smaller and smaller < config.batch_size:
        lines.append(f"--config.batch_size={smaller}: an estimate of what fits")
    return lines or ["more chips, or larger ones: one sample a chip is too much"]
