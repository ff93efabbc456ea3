"""What accelerators can do, as their makers state it; without an entry there is no utilisation."""

from __future__ import annotations

import re
from typing import NamedTuple


class Chip(NamedTuple):
    """One jax device.

    Attributes:
      kinds: pattern of the names that jax gives it. Whole names only: PCIe and NVL cards are slower than
        SXM ones of the same name, a MIG slice is a part of a card.
      peak_flops: dense bfloat16 FLOP/s.
      hbm_gib: memory.
      hbm_bytes_per_s: its bandwidth.
      link_bytes_per_s: into its slice or node, all links together, one direction.
      network_bytes_per_s: between slices or nodes, one direction.
      most: devices that one node has; 0 for a TPU, whose topology says it.
    """

    kinds: str
    peak_flops: float
    hbm_gib: float
    hbm_bytes_per_s: float
    link_bytes_per_s: float
    network_bytes_per_s: float
    most: int = 0


# TPU: cloud.google.com/tpu/docs, pages v4, v5e, v5p and v6e (peak, memory, its bandwidth, links); between
# slices jax-ml.github.io/scaling-book, chapter TPUs, which has no figure for v4: that of v5p stands there.
# Memory is what the compiler lets a program use, a quarter of a GiB to one and a quarter below the page.
# NVIDIA: data sheets of A100 80GB SXM, H100 SXM and H200 SXM; NVLink counts one direction. Between nodes: a
# network card each of 200 Gbit/s (DGX A100) or 400 Gbit/s (DGX H100).
CHIPS = {
    "v4": Chip(r"TPU v4", 275e12, 30.75, 1228e9, 270e9, 6.25e9),
    "v5e": Chip(r"TPU v5 lite|TPU v5e", 197e12, 15.75, 819e9, 180e9, 3.125e9),
    "v5p": Chip(r"TPU v5|TPU v5p", 459e12, 95.74, 2765e9, 540e9, 6.25e9),
    "v6e": Chip(r"TPU v6 lite|TPU v6e", 918e12, 31.25, 1640e9, 360e9, 12.5e9),
    "a100": Chip(
        r"NVIDIA A100-(SXM4|SXM|PCIE)-\d+GB|NVIDIA A100 80GB PCIe",
        312e12,
        80e9 / 2**30,
        2039e9,
        300e9,
        25e9,
        8,
    ),
    "h100": Chip(r"NVIDIA H100 80GB HBM3", 989e12, 80e9 / 2**30, 3350e9, 450e9, 50e9, 8),
    "h200": Chip(r"NVIDIA H200", 989e12, 141e9 / 2**30, 4800e9, 450e9, 50e9, 8),
}


def peak_flops(kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device kind; None where the table does not have it."""
    return next((chip.peak_flops for chip in CHIPS.values() if re.fullmatch(chip.kinds, kind)), None)


def utilization(flops_per_s: float, kind: str, num_devices: int, dtype: str) -> tuple[float | None, str]:
    """Share of the peak that a program reaches.

    Args:
      flops_per_s: counted, of all devices together.
      kind: of the devices, as jax names it.
      num_devices: how many.
      dtype: of the computation.

    Returns:
      share: within [0, 1], or None where no peak is known.
      note: why it is None; "" otherwise.
    """
    peak = peak_flops(kind)
    if peak is None:
        return None, f"no peak is known of a device of kind {kind!r}"
    if dtype != "bfloat16":
        return None, f"peaks are those of bfloat16, the model computes in {dtype}"
    return flops_per_s / (peak * num_devices), ""
