"""Figure of robustness to distance: probe R2 and delta-PSNR against the frame gap in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from farsighted_jax.viz import charts

PROTOCOLS = {"fitted_per_gap": "probe fitted at each gap", "fitted_at_1": "probe fitted at the trained gap"}
FEATURE = "quantized"


def gap_curves(path: str | Path, dataset: str, entry: Mapping[str, Any]) -> Path:
    """Draws one dataset's entry of the evaluator "gap_robustness".

    A panel for each protocol with one line an action group, read from the
    quantised codes, and one panel for delta-PSNR. Gaps without a value are left out.

    Raises:
      ImportError: matplotlib is not installed.
    """
    protocols = [name for name in PROTOCOLS if name in entry.get("r2", {})]
    figure = charts.new_figure(3.6 * (len(protocols) + 1), 3.2)
    panels = figure.subplots(1, len(protocols) + 1, squeeze=False)[0]
    for axes, protocol in zip(panels, protocols, strict=False):
        by_gap = entry["r2"][protocol][FEATURE]
        for index, group in enumerate(next(iter(by_gap.values()))):
            _line(axes, entry["gap_s"], {m: values[group] for m, values in by_gap.items()}, group, index)
        axes.axhline(0, color=charts.COLORS[5], linewidth=0.8, linestyle=":")
        axes.legend(fontsize=8, frameon=False)
        charts.style_axes(axes, f"{dataset}: {PROTOCOLS[protocol]}", "gap, s", "R2")
    _line(panels[-1], entry["gap_s"], entry["delta_psnr"], "", 0)
    charts.style_axes(panels[-1], "inferred against random codes", "gap, s", "delta-PSNR, dB")
    return charts.save(figure, path)


def _line(axes, gap_s, values, label, index):
    known = [m for m in gap_s if values.get(m) is not None]
    axes.plot(
        [gap_s[m] for m in known],
        [values[m] for m in known],
        label=label,
        color=charts.COLORS[index % len(charts.COLORS)],
        marker="o",
        markersize=4,
    )
