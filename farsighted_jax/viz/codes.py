"""Figure of codebook use: a heat map of slots against codes, with perplexity and usage in words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from farsighted_jax.viz import charts


def code_usage(path: str | Path, codebook: Mapping[str, Any]) -> Path:
    """Draws the share of each code in each slot over a whole split.

    Args:
      path: PNG to write.
      codebook: result of the evaluator "codebook".

    Raises:
      ValueError: the result holds no sample.
      ImportError: matplotlib is not installed.
    """
    if "counts_per_slot" not in codebook:
        raise ValueError(f"codebook result without samples: {dict(codebook)}")
    counts_ZV = np.asarray(codebook["counts_per_slot"]["all"], np.float64)
    num_slots, codebook_size = counts_ZV.shape
    share_ZV = counts_ZV / counts_ZV.sum(axis=1, keepdims=True)
    figure = charts.new_figure(9.0, 2.6 + 0.28 * num_slots)
    bars, heat = figure.subplots(2, 1, sharex=True, height_ratios=[1.5, max(1.0, 0.28 * num_slots)])
    bars.bar(np.arange(codebook_size), 100 * counts_ZV.sum(axis=0) / counts_ZV.sum(), color=charts.COLORS[0])
    bars.axhline(
        100 / codebook_size, color=charts.COLORS[1], linewidth=1, linestyle="--", label="uniform use"
    )
    bars.legend(fontsize=8, frameon=False, loc="upper right")
    charts.style_axes(bars, _summary(codebook, codebook_size), "", "all slots, %")
    # Unused codes stay white, so that a rare code and an unused one look different.
    shown = np.ma.masked_equal(100 * share_ZV, 0)
    image = heat.imshow(shown, aspect="auto", interpolation="nearest", cmap="viridis", vmin=0)
    charts.style_axes(heat, "", "code", "")
    heat.grid(False)
    heat.set_yticks(range(num_slots), [_slot(codebook, slot) for slot in range(num_slots)])
    bar = figure.colorbar(image, ax=heat, pad=0.01)
    bar.set_label("share in slot, %", fontsize=9)
    bar.ax.tick_params(labelsize=8)
    return charts.save(figure, path)


def _summary(codebook, codebook_size):
    tuples, samples = codebook["distinct_tuples"]["all"], codebook["num_samples"]["all"]
    return (
        f"codebook of {codebook_size}: usage {100 * codebook['usage']['all']:.0f} %, "
        f"perplexity {codebook['perplexity']['all']:.1f}, "
        f"{tuples} distinct tuples in {samples} transitions"
    )


def _slot(codebook, slot):
    usage, perplexity = codebook["usage_per_slot"]["all"][slot], codebook["perplexity_per_slot"]["all"][slot]
    return f"slot {slot}  ({100 * usage:.0f} %, ppl {perplexity:.1f})"
