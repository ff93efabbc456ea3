"""How long a step might take: a roofline. Nothing was measured, and real steps take longer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from farsighted_jax.bench.devices import Chip

NOTE = (
    "estimate, not measured: the longest of arithmetic at peak, memory (all that a chip holds at its peak, "
    "written and read once) and messages (links and network at full rate), as if each hid the others"
)


def roofline(
    chip: Chip,
    *,
    num_chips: int,
    executed_flops: float,
    peak_bytes: float,
    collectives: Mapping[str, Mapping[str, Any]],
) -> dict[str, float]:
    """Seconds of a step, by what limits it.

    Args:
      chip: of which there are `num_chips`.
      num_chips: over which the arithmetic is taken to spread evenly.
      executed_flops: of all chips, with what is computed twice.
      peak_bytes: of one chip's memory.
      collectives: see `plan.collectives`.

    Returns:
      "compute_s", "memory_s", "links_s", "network_s"; "step_s", their maximum;
      "compute_bound_margin", how much slower arithmetic is than all else: below 1 it waits.
    """
    inside = sum(entry["gib"] - entry["network_gib"] for entry in collectives.values()) * 2**30
    outside = sum(entry["network_gib"] for entry in collectives.values()) * 2**30
    times = {
        "compute_s": executed_flops / (num_chips * chip.peak_flops),
        "memory_s": 2 * peak_bytes / chip.hbm_bytes_per_s,
        "links_s": inside / chip.link_bytes_per_s,
        "network_s": outside / chip.network_bytes_per_s,
    }
    others = max(value for name, value in times.items() if name != "compute_s")
    return times | {"step_s": max(times.values()), "compute_bound_margin": times["compute_s"] / others}
