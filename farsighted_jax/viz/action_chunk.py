"""Figure of the open-loop action error over the steps of a chunk, beside its baselines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farsighted_jax.viz import charts

# Quantity of the evaluator "action_error" -> its line.
LINES = {"mae": "policy", "mae_mean": "mean action", "mae_repeat": "last action"}


def action_chunk_errors(path: str | Path, dataset: str, entry: Mapping[str, Any]) -> Path:
    """Draws one dataset's entry of the evaluator "action_error": a panel an action group.

    The error is the mean absolute one in the dataset's own units, of normalised
    actions for a group whose dimensions have several units.

    Raises:
      ImportError: matplotlib is not installed.
    """
    units = entry["units"]["group"]
    groups = [name for name in entry["normalised"]["mae"]["step"] if name != "all"]
    figure = charts.new_figure(3.4 * len(groups), 3.0)
    for axes, group in zip(figure.subplots(1, len(groups), squeeze=False)[0], groups, strict=True):
        unit = units.get(group, "normalised")
        errors = entry["own_units" if group in units else "normalised"]
        for index, (quantity, label) in enumerate(LINES.items()):
            values = errors[quantity]["step"][group]
            steps = [step for step, value in enumerate(values) if value is not None]
            axes.plot(
                steps,
                [values[step] for step in steps],
                label=label,
                color=charts.COLORS[index],
                marker="o",
                markersize=4,
                linestyle="-" if quantity == "mae" else "--",
            )
        axes.set_ylim(bottom=0)
        axes.set_xticks(range(len(values)))
        charts.style_axes(axes, f"{dataset}: {group}", "step of the chunk", f"mean absolute error, {unit}")
    figure.axes[0].legend(fontsize=8, frameon=False)
    return charts.save(figure, path)
