"""Curves of a training run from its `metrics.jsonl`: loss terms, throughput, input stall."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

from farsighted_jax.viz import charts

PREFIX = "train/"
# Metrics that are no loss terms; everything else under "train/" is drawn with the losses.
NOT_A_LOSS = re.compile(
    r"per_s$|stall|memory|_mb$|_bytes$|_s$|learning_rate|^lr$|norm|count|usage|perplexity|restart|skipped|mfu"
    r"|goodput|in_a_row|psnr|top\d+$|error"
)
THROUGHPUT = re.compile(r"samples_per_s$")
STALL = re.compile(r"stall")


def read_metrics(path: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Metric name -> (step, value) in step order; of a step logged twice (a resume) the last line wins.

    Raises:
      ValueError: a line that is no JSON object with a step; names file and line. A broken
        last line, as a kill leaves it, is passed over.
    """
    lines = Path(path).read_text().splitlines()
    values: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            step = int(record.pop("step"))
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            if number == len(lines):
                break
            raise ValueError(
                f"{path}, line {number}: not a JSON object with 'step': {line[:80]!r}"
            ) from error
        for name, value in record.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
                values.setdefault(name, {})[step] = float(value)
    return {name: sorted(series.items()) for name, series in values.items()}


def loss_terms(series: dict[str, list[tuple[int, float]]]) -> list[str]:
    """Names of the loss terms under "train/", the total first."""
    names = [n for n in series if n.startswith(PREFIX) and not NOT_A_LOSS.search(n.removeprefix(PREFIX))]
    return sorted(names, key=lambda name: (name != "train/loss", name))


def training_curves(path: str | Path, metrics_path: str | Path) -> Path:
    """Draws the loss terms, and beside them throughput and input stall where they were logged.

    The loss axis is logarithmic if every value is positive and they span more
    than a factor of five.

    Raises:
      ValueError: the file holds no loss term.
      ImportError: matplotlib is not installed.
    """
    series = read_metrics(metrics_path)
    losses = loss_terms(series)
    if not losses:
        raise ValueError(f"{metrics_path} holds no loss under {PREFIX!r}; it has {sorted(series)}")
    speeds = [n for n in series if n.startswith(PREFIX) and THROUGHPUT.search(n)]
    stalls = [n for n in series if n.startswith(PREFIX) and STALL.search(n)]
    num_panels = 1 + bool(speeds) + bool(stalls)
    figure = charts.new_figure(4.6 + 3.4 * (num_panels - 1), 3.4)
    ratios = [1.4] + [1.0] * (num_panels - 1)
    panels = iter(figure.subplots(1, num_panels, squeeze=False, width_ratios=ratios)[0])
    axes = next(panels)
    _lines(axes, series, losses)
    values = [value for name in losses for _, value in series[name]]
    if min(values) > 0 and max(values) > 5 * min(values):
        axes.set_yscale("log")
    charts.style_axes(axes, "loss terms", "step", "loss")
    for names, title, unit in (
        (speeds, "throughput", "samples / s"),
        (stalls, "waiting for input", "share of time"),
    ):
        if names:
            axes = next(panels)
            _lines(axes, series, names)
            axes.set_ylim(bottom=0)
            charts.style_axes(axes, title, "step", unit)
    return charts.save(figure, path)


def _lines(axes, series, names):
    from matplotlib.ticker import MaxNLocator

    for index, name in enumerate(names):
        steps, values = zip(*series[name], strict=True)
        axes.plot(
            steps,
            values,
            label=name.removeprefix(PREFIX),
            color=charts.COLORS[index % len(charts.COLORS)],
            linestyle=("-", "--", ":")[index // len(charts.COLORS) % 3],
            linewidth=2.0 if name == "train/loss" else 1.3,
            marker="o" if len(steps) < 3 else None,
            markersize=3,
        )
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    if len(names) > 1:
        axes.legend(fontsize=8, edgecolor="none", framealpha=0.8)
