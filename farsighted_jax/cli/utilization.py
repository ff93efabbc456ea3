"""Model FLOP utilisation of a training run, for its metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

# Parts of `bench.flops.lam_flops` that have no gradient of their own, by the name of their metric.
APART = {"frozen_encoder": "frozen", "lpips": "perceptual"}


def utilization_metrics(
    config: ConfigDict, kind: str, num_devices: int
) -> Callable[[int, Any, Mapping[str, Any]], dict[str, float]] | None:
    """What `train.loop.train` can call at logged steps.

    Args:
      config: of the run.
      kind: of the devices, as jax names it.
      num_devices: how many the run uses.

    Returns:
      (step, state, values) -> `train/tflop_per_s`, the model's counted arithmetic; where the
      devices' peak is known, `train/mfu`, its share of that, and the parts of it that are
      trained, frozen and perceptual. None for a model whose arithmetic is not counted.
    """
    from farsighted_jax.bench.devices import utilization

    flops = flops_per_sample(config)
    if not flops:
        return None

    def metrics(step, state, values):
        del step, state
        rate = values["train/samples_per_s"]
        found = {"train/tflop_per_s": round(rate * sum(flops.values()) / 1e12, 4)}
        shares = {
            name: utilization(rate * count, kind, num_devices, config.model.dtype)[0]
            for name, count in flops.items()
        }
        if None in shares.values():
            return found
        parts = {f"train/mfu_{name}": round(share, 5) for name, share in shares.items()}
        return found | {"train/mfu": round(sum(shares.values()), 5)} | parts

    return metrics


def flops_per_sample(config: ConfigDict) -> dict[str, int]:
    """FLOPs of a sample and training step: "trained", "frozen", "perceptual"; {} where they are not counted.

    They are of latent action models whose own parameters are all trained, see `bench.flops`.
    """
    from farsighted_jax.bench.flops import lam_flops

    if config.task != "lam" or config.optimizer.freeze:
        return {}
    flops: dict[str, int] = {}
    for part, count in lam_flops(config).items():
        name = APART.get(part, "trained")
        flops[name] = flops.get(name, 0) + count.step
    return flops
