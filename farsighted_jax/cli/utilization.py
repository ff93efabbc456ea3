"""Model FLOP utilisation of a training run, for its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any


def utilization_metrics(
    flops: Mapping[str, int], dtype: str, kind: str, num_devices: int
) -> Callable[[int, Any, Mapping[str, Any]], dict[str, float]]:
    """What `train.loop.train` can call at logged steps.

    Args:
      flops: of a sample and training step by part, see `bench.model_flops`.
      dtype: of the computation.
      kind: of the devices, as jax names it.
      num_devices: how many the run uses.

    Returns:
      (step, state, values) -> `train/tflop_per_s`, the model's counted arithmetic; where the
      devices' peak is known, `train/mfu`, its share of that, and the parts of it that are
      trained, frozen and perceptual.
    """
    from farsighted_jax.bench.devices import utilization

    def metrics(step, state, values):
        del step, state
        rate = values["train/samples_per_s"]
        found = {"train/tflop_per_s": round(rate * sum(flops.values()) / 1e12, 4)}
        shares = {
            name: utilization(rate * count, kind, num_devices, dtype)[0] for name, count in flops.items()
        }
        if None in shares.values():
            return found
        parts = {f"train/mfu_{name}": round(share, 5) for name, share in shares.items()}
        return found | {"train/mfu": round(sum(shares.values()), 5)} | parts

    return metrics
