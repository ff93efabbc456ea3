"""The one place that imports matplotlib: figures without a display, one style, written as PNG."""

from __future__ import annotations

from pathlib import Path

DPI = 110
COLORS = ("#1b6ca8", "#d1495b", "#3b8e5a", "#b8860b", "#7a4ea3", "#4d4d4d", "#e07b39", "#2a9d9d")


def new_figure(width: float, height: float):
    """A matplotlib Figure of that size in inches, on white.

    Raises:
      ImportError: matplotlib is not installed; the message says how to get it.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("charts need matplotlib: pip install farsighted-jax[plot]") from error
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def style_axes(axes, title: str, xlabel: str, ylabel: str) -> None:
    """Plain axes: title at the left, light grid, no frame at the top and right."""
    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(xlabel, fontsize=9)
    axes.set_ylabel(ylabel, fontsize=9)
    axes.tick_params(labelsize=8)
    axes.grid(True, color="#e3e3e3", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def save(figure, path: str | Path) -> Path:
    """Writes the figure as PNG, making its folder; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png")
    return path
