"""Peak arithmetic of accelerators, as their makers state it; without an entry there is no utilisation."""

from __future__ import annotations

import re

# Dense bfloat16 FLOP/s of one jax device, by the kind that jax names. Whole names only: PCIe and NVL
# cards are slower than SXM ones of the same name, a MIG slice is a part of a card.
PEAK_FLOPS = (
    (r"NVIDIA A100-(SXM4|SXM|PCIE)-\d+GB|NVIDIA A100 80GB PCIe", 312e12),
    (r"NVIDIA H100 80GB HBM3", 989e12),
    (r"NVIDIA H200", 989e12),
    (r"TPU v4", 275e12),
    (r"TPU v5 lite|TPU v5e", 197e12),
    (r"TPU v5|TPU v5p", 459e12),
    (r"TPU v6 lite|TPU v6e", 918e12),
)


def peak_flops(kind: str) -> float | None:
    """Peak bfloat16 FLOP/s of a device kind; None where the table does not have it."""
    return next((peak for pattern, peak in PEAK_FLOPS if re.fullmatch(pattern, kind)), None)


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
