"""Figure of a table of plans: memory of a chip at its peak against the number of chips."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farsighted_jax.viz import charts

SERIES = {"fixed": "the same batch on more chips", "grown": "a batch that grows with the chips"}


def plan_memory(path: str | Path, table: Mapping[str, Any]) -> Path | None:
    """Draws the finished rows whose "series" is one of `SERIES`; None where there are none.

    Raises:
      ImportError: matplotlib is not installed.
    """
    found = {
        name: sorted(
            (row["plan"]["topology"]["chips"], row["plan"]["peak_gib_per_chip"])
            for row in table["rows"]
            if row.get("plan") and name in row.get("series", ())
        )
        for name in SERIES
    }
    if not any(found.values()):
        return None
    figure = charts.new_figure(4.6, 3.2)
    axes = figure.subplots()
    for color, (name, points) in zip(charts.COLORS, found.items(), strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", color=color, label=SERIES[name])
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8, frameon=False)
    charts.style_axes(axes, "memory at its peak, compiled, not measured", "chips", "GiB a chip")
    return charts.save(figure, path)
