"""Figure of a table that compares variants over seeds."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farsighted_jax.viz import charts

# Not drawn where there are no curves: columns of cost.
NOT_DRAWN = "_minutes"


def comparison_figure(path: str | Path, table: Mapping[str, Any]) -> Path:
    """Draws a table of `bench.compare`.

    With curves: a panel each, a line a variant through the medians over seeds,
    the spread shaded. Without: a panel a column, a dot a seed and a bar at the median.

    Raises:
      ImportError: matplotlib is not installed.
    """
    if table["curves"]:
        return _curves(path, table["curves"])
    names = [name for name in next(iter(table["median"].values())) if not name.endswith(NOT_DRAWN)]
    figure = charts.new_figure(2.4 * len(names) + 0.6, 0.35 * len(table["median"]) + 1.3)
    panels = figure.subplots(1, len(names), squeeze=False, sharey=True)[0]
    for axes, name in zip(panels, names, strict=True):
        _dots(axes, table, name)
    return charts.save(figure, path)


def _curves(path, curves):
    figure = charts.new_figure(4.2 * len(curves), 3.4)
    panels = figure.subplots(1, len(curves), squeeze=False, sharey=True)[0]
    for axes, (title, variants) in zip(panels, curves.items(), strict=True):
        for index, (variant, seeds) in enumerate(variants.items()):
            at: dict[float, list[float]] = {}
            for points in seeds.values():
                for x, y in points:
                    at.setdefault(x, []).append(y)
            x = sorted(at)
            color = charts.COLORS[index % len(charts.COLORS)]
            axes.fill_between(x, [min(at[v]) for v in x], [max(at[v]) for v in x], color=color, alpha=0.15)
            middle = [statistics.median(at[v]) for v in x]
            axes.plot(x, middle, label=variant, color=color, marker="o", markersize=4)
        axes.axhline(0, color=charts.COLORS[5], linewidth=0.8, linestyle=":")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        charts.style_axes(axes, title, "gap, s", "R2")
    panels[0].legend(fontsize=8, frameon=False)
    return charts.save(figure, path)


def _dots(axes, table, name):
    variants = list(table["median"])
    for place, variant in enumerate(variants):
        values = [c[name] for c in table["cells"] if c["variant"] == variant and c[name] is not None]
        color = charts.COLORS[place % len(charts.COLORS)]
        axes.plot(values, [place] * len(values), "o", color=color, markersize=4, alpha=0.7)
        if values:
            axes.plot([table["median"][variant][name]] * 2, [place - 0.3, place + 0.3], color=color)
    axes.set_ylim(len(variants) - 0.5, -0.5)
    charts.style_axes(axes, name, "", "")
    axes.set_yticks(range(len(variants)), variants)
    # Labels of a narrow range are long.
    axes.locator_params(axis="x", nbins=3)
