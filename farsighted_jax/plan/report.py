"""A plan as text for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def text(plan: Mapping[str, Any]) -> str:
    """Lines of a plan, see `planner.run`: first whether it fits."""
    place = plan["topology"]
    slices = f", {place['slices']} slices" if place["slices"] > 1 else ""
    mesh = " x ".join(f"{name} {size}" for name, size in plan["mesh"].items())
    lines = [
        f"{plan['task']} {plan['variant']}, batch {plan['batch_size']}, on {place['chips']} chips of "
        f"{place['name']}{slices}, mesh {mesh}",
        _verdict(plan),
        "of it, GiB: "
        + ", ".join(f"{name.removesuffix('_gib')} {gib}" for name, gib in plan["memory"].items()),
        f"parameters: {plan['params']:,} trained, {plan['frozen_params']:,} frozen",
        f"FLOPs a step: {plan['flops_per_step']:.4g} of the model, "
        f"{plan['executed_flops_per_step']:.4g} with what is computed twice",
    ]
    if plan["collectives"] is not None:
        lines += _program_lines(plan)
    lines.append(f"largest batch (estimate): {plan['largest_batch_estimate']}, by {plan['largest_batch_by']}")
    lines.append(f"mesh to try (by a rule): {plan['suggested_mesh']}")
    if plan["compiler_says"]:
        lines.append(f"the compiler says: {plan['compiler_says']}")
    lines += [f"to make it fit: {line}" for line in plan["change"]]
    return "\n".join(
        [*lines, f"compiled in {plan['compile_s']} s with {plan['effort']} effort by jax {plan['jax']}"]
    )


def _verdict(plan):
    word = "fits" if plan["fits"] else "does not fit"
    needed = "more than there is" if plan["peak_gib_per_chip"] is None else f"{plan['peak_gib_per_chip']} GiB"
    how = " (of the program for a simulated CPU device, a rough guess)" if plan["simulated"] else ""
    return f"{word}: needs {needed} a chip{how}, which has {plan['hbm_gib_per_chip']} GiB"


def _program_lines(plan):
    messages = [
        f"{kind} {entry['count']} x, {entry['gib']:.3g} GiB"
        + (f" ({entry['network_gib']:.3g} between slices)" if entry["network_gib"] else "")
        for kind, entry in plan["collectives"].items()
    ]
    estimate = plan["estimate"]
    lines = [f"messages a chip sends in a step: {'; '.join(messages) or 'none'}"]
    if plan["unknown_loops"]:
        lines.append(f"{plan['unknown_loops']} loop(s) of unknown length are counted as one round")
    return [
        *lines,
        f"attention: {plan['attention']}",
        f"step: {plan['step_s_estimate']} s, {plan['samples_per_s_estimate']} samples/s, "
        f"utilisation {plan['mfu_estimate']:.1%} ({estimate['note']})",
        f"  arithmetic {estimate['compute_s']} s, memory {estimate['memory_s']} s, "
        f"links {estimate['links_s']} s, network {estimate['network_s']} s; "
        f"compute-bound margin {estimate['compute_bound_margin']}",
    ]
