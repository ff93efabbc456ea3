"""Measures the training step of a LAM beside the same one in torch, on CPU, in turn.

Both start from the same parameters and read the same batch, and the losses of their first steps are compared:
what is measured is one model, twice.
"""

from __future__ import annotations

import importlib.util
import json
import math
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from farsighted_jax.bench import rounds, step, torch_step
from farsighted_jax.bench.data import BenchError, host
from farsighted_jax.bench.timing import milliseconds, seconds_of
from farsighted_jax.core import config as config_lib
from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.lam.task import OWN_ENCODER, lam_task
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.sharding import place
from farsighted_jax.sharding.mesh import make_mesh

ROUNDS = 5

# The losses of the first steps may differ by what float32 sums in another order.
TOLERANCE = 1e-4

# Keys with the only value that the torch side has.
ONLY: dict[str, Any] = {
    "task": "lam",
    "model.head": "pixels",
    "model.num_keypoints": 0,
    "model.depth_input": "none",
    "model.dtype": "float32",
    "quantizer.name": "ema",
    "quantizer.warmup": 0.0,
    "loss.feature": 0.0,
    "loss.contrastive": 0.0,
    "loss.relative_depth": 0.0,
    "optimizer.accumulation": 1,
    "optimizer.ema_decay": 0.0,
    "optimizer.freeze": (),
}


def check_supported(config: ConfigDict) -> None:
    """Refuses what the torch side has not.

    Raises:
      ConfigError: names every such key, its value and the one expected.
    """
    flat = config_lib.flatten(config)
    # A configuration of another task has other keys, too.
    found = {key: flat.get(key) for key in ONLY}
    wrong = [
        f"{key} is {found[key]!r}, expected {only!r}" for key, only in ONLY.items() if found[key] != only
    ]
    name = flat.get("model.image_encoder", OWN_ENCODER)
    network = MODELS[name].module() if name in MODELS else None
    if network and (network.num_registers or network.swiglu):
        wrong.append(f"model.image_encoder is {name!r}, expected one without registers and SwiGLU")
    if wrong:
        raise config_lib.ConfigError(f"the torch side of the bench has no such LAM: {'; '.join(wrong)}")


def run(
    config: ConfigDict, *, steps: int = 20, warm_up: int = 3, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Runs both steps, each in a process of its own with all cores, by turns of a few steps.

    Args:
      config: see `bench.step`.
      steps: how many of each are timed, rounded up to a multiple of `ROUNDS`.
      warm_up: how many of each run before.
      report: gets a line before each preparation.

    Returns:
      For JSON. Of the step of this project `samples_per_s`, `step_ms` (median), `step_ms_range`, `compile_s`
      and `loss` of the first step; of the other the same under "torch", with `mode`: "compile", or "eager"
      and why. `times_torch`: samples a second by those of torch, `times_torch_range` of single rounds.

    Raises:
      ConfigError: see `check_supported`.
      BenchError: no torch, a process that failed, or losses that are not the same.
    """
    check_supported(config)
    if importlib.util.find_spec("torch") is None:
        raise BenchError("the comparison needs the package 'torch' (see `parity` in setup.py)")
    steps = math.ceil(steps / ROUNDS)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / torch_step.CONFIG).write_text(json.dumps(config.to_dict()), encoding="utf-8")
        shared = {"folder": folder, "warm_up": warm_up}
        report("preparing the step")
        with rounds.Worker(__name__, shared, {"JAX_PLATFORMS": "cpu"}) as ours:
            report("preparing the step in torch")
            sizes = {"sizes": sizes_of(config), "threads": host()["cores"]}
            with rounds.Worker(torch_step.__name__, shared | sizes, {}) as theirs:
                _check_same(ours.about["loss"], theirs.about["loss"])
                times = rounds.alternating((ours, theirs), ROUNDS, steps)
                about = ours.about, theirs.about
    return _result(config, *times, *about)


def sizes_of(config: ConfigDict) -> dict[str, Any]:
    """`torch_lam.Sizes` of a configuration."""
    name = config.model.image_encoder
    return {
        "num_heads": VARIANTS[config.model.variant]["num_heads"],
        "patch": config.model.patch,
        "pyramid": config.model.pyramid,
        "frozen_heads": 0 if name == OWN_ENCODER else MODELS[name].module().num_heads,
    }


def _check_same(ours, theirs):
    if not math.isclose(ours, theirs, rel_tol=TOLERANCE):
        raise BenchError(f"not the same model: the loss of the first step is {ours}, in torch {theirs}")


def _result(config, ours, theirs, about, torch_about):
    ratios = [
        statistics.median(their) / statistics.median(our) for our, their in zip(ours, theirs, strict=True)
    ]
    step_s, torch_s = (statistics.median(sum(times, [])) for times in (ours, theirs))
    return {
        **_measured(config, ours, about),
        "torch": _measured(config, theirs, torch_about),
        "times_torch": round(torch_s / step_s, 3),
        "times_torch_range": [round(min(ratios), 3), round(max(ratios), 3)],
        "rounds": ROUNDS,
        "steps": sum(map(len, ours)),
        "batch_size": config.batch_size,
        "frames_per_sample": len(config.data.offsets_s) + 1,
        "resolution": config.data.resolution,
        "variant": config.model.variant,
        "dtype": config.model.dtype,
        "host": host(),
    }


def _measured(config, rounds_of_times, about):
    times = sum(rounds_of_times, [])
    return {
        "samples_per_s": round(config.batch_size / statistics.median(times), 3),
        "step_ms": milliseconds(statistics.median(times)),
        "step_ms_range": [milliseconds(min(times)), milliseconds(max(times))],
        **about,
    }


def prepare(folder: str, warm_up: int) -> tuple[dict, Callable]:
    """Of this project's step, for `rounds.serve`; writes what the step in torch starts from.

    Args:
      folder: has the configuration, gets the arrays.
      warm_up: steps before it is ready, at least one.
    """
    config = config_lib.from_json((Path(folder) / torch_step.CONFIG).read_text(encoding="utf-8"))
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    state, compiled, compiling = step.compiled_step(lam_task(config), config, mesh, lambda line: None)
    arrays = step.random_batch(config, config.batch_size)
    handed_over = {
        torch_step.BATCH: arrays,
        torch_step.PARAMS: tree.flat_paths(state.params),
        torch_step.FROZEN: tree.flat_paths(state.frozen.get(PRETRAINED, {})),
        torch_step.STATE: tree.flat_paths(state.model_state),
    }
    for name, found in handed_over.items():
        np.savez(Path(folder) / name, **found)
    batch, found = place.shard_batch(arrays, mesh), {}

    def advance():
        nonlocal state, found
        state, found = compiled(state, batch)
        return state, found

    seconds_of(advance, 1, 0)
    loss = round(float(found["loss"][0]), 6)
    seconds_of(advance, max(warm_up - 1, 0), 0)
    about = {"version": jax.__version__, "threads": host()["cores"], "loss": loss}
    return about | compiling, lambda steps: seconds_of(advance, steps, 0)


if __name__ == "__main__":
    rounds.serve(prepare)
