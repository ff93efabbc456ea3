"""A table of `bench.compare` as Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NONE = "n/a"
VERDICTS = {True: "holds", False: "does not hold", None: "open"}


def markdown(table: Mapping[str, Any]) -> str:
    """A row a variant: the median over seeds and, where they differ, the range; then claim and machine."""
    names = list(next(iter(table["median"].values())))
    lines = [_line(["variant", "seeds", *names]), _line(["---"] * (len(names) + 2))]
    for variant, median in table["median"].items():
        cells = [cell for cell in table["cells"] if cell["variant"] == variant]
        seeds = ", ".join(str(cell["seed"]) for cell in cells)
        lines.append(_line([variant, seeds, *[_spread(median[n], [c[n] for c in cells]) for n in names]]))
    text = "\n".join(lines) + "\n\nMedian over seeds (lowest to highest).\n"
    failed = [cell for cell in table["cells"] if "error" in cell]
    if failed:
        text += "\nFailed:\n\n"
        text += "".join(f"- {cell['variant']}, seed {cell['seed']}: {cell['error']}\n" for cell in failed)
    if "claim" in table:
        claim = table["claim"]
        seeds = ", ".join(f"seed {seed}: {VERDICTS[holds]}" for seed, holds in claim["seeds"].items())
        text += f"\nClaim: {claim['text']} Medians: {VERDICTS[claim['median']]} ({seeds}).\n"
    machines = "; ".join(f"{host['cpu']}, {host['cores']} cores" for host in table["hosts"])
    return text + f"\nMachine: {machines}.\n"


def _line(entries):
    return "| " + " | ".join(entries) + " |"


def _spread(median, values):
    known = sorted(value for value in values if value is not None)
    if not known:
        return NONE
    missing = f", {len(values) - len(known)} {NONE}" if len(known) < len(values) else ""
    span = f" ({known[0]:.3g} to {known[-1]:.3g})" if known[0] != known[-1] else ""
    return f"{median:.3g}{span}{missing}"
