"""Measures how long a policy takes for one action chunk on random input: cached, uncached, and by part."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from farsighted_jax.bench.data import host
from farsighted_jax.bench.timing import milliseconds, program_mb, random_networks, seconds_of
from farsighted_jax.core import placement, tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.policy.calls import calls_of
from farsighted_jax.policy.inference import Stages
from farsighted_jax.policy.task import PolicyTask
from farsighted_jax.sharding.mesh import one_device
from farsighted_jax.train.metrics import memory

# Ids of text stay below it whatever the tokeniser.
SMALLEST_VOCABULARY = 256


def run(
    task: PolicyTask,
    zeros: Mapping[str, np.ndarray],
    *,
    steps: int = 20,
    warm_up: int = 3,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Times the whole way from an observation to a chunk, then its parts.

    Weights are random, pretrained networks included; they are as fast as real
    ones. Without caching, all groups up to the plan run anew for every code of it,
    on one observation, whose frozen networks run once; then the same flow.

    Args:
      task: of a configuration with actions.
      zeros: a batch of one sample.
      steps: how many chunks are timed.
      warm_up: how many come before.
      report: gets a line before each compilation.

    Returns:
      For JSON. "chunk": for "cached" and "uncached" the latency ("p50_ms", "p95_ms"), the calls of
      each part of the model while one chunk is made ("calls"), the seconds of compiling, and the
      memory of the program in MB; "difference" is the largest one between their normalised
      actions. "parts_ms": medians of the stages of the cached way, each compiled alone; their sum
      is no exact whole. The rest tells what was measured where.
    """
    stages, batch, key = Stages(task), random_batch(zeros), jax.random.key(0)
    report("making random weights")
    params = _random_params(task, batch)
    ways = {
        "cached": stages.actions,
        "uncached": functools.partial(uncached_actions, stages),
    }
    chunk, actions = {}, {}
    for name, way in ways.items():
        report(f"compiling the way {name!r}")
        chunk[name], actions[name] = _measured(way, (params, batch, key), steps, warm_up)
    layout = task.model.layout
    return {
        "chunk": chunk,
        "difference": float(np.max(np.abs(actions["cached"] - actions["uncached"]))),
        "parts_ms": _parts(stages, params, batch, key, steps, warm_up, report),
        "tokens": {group: layout.size(group) for group in layout.groups},
        "codes": layout.num_codes,
        "flow": {"num_steps": task.flow.num_steps, "solver": task.flow.solver},
        "action_steps": layout.chunk,
        "samples": len(batch["dataset"]),
        "steps": steps,
        "dtype": jnp.dtype(task.model.dtype).name,
        "params": tree.num_elements({name: leaf for name, leaf in params.items() if name != PRETRAINED}),
        "frozen_params": tree.num_elements(params.get(PRETRAINED, {})),
        **memory(),
        "device": {"kind": jax.devices()[0].device_kind, "jax": jax.__version__},
        "host": host(),
    }


def uncached_actions(stages: Stages, params, batch, key):
    """The actions of `Stages.actions`, with all that the plan sees computed again for every code of it."""
    task, layout = stages.task, stages.task.model.layout
    observation, num = task.observation(params, batch), len(batch["dataset"])
    # No token sees the actions, and no code depends on them.
    planner = task.model.clone(layout=dataclasses.replace(layout, chunk=0))

    def likeliest(index, code_BtZ):
        logit_BnV = planner.apply({"params": params}, observation, code_BtZ=code_BtZ).logit_BnV
        code_B = jnp.argmax(logit_BnV[:, index], axis=-1).astype(code_BtZ.dtype)
        return code_BtZ.reshape(num, -1).at[:, index].set(code_B).reshape(code_BtZ.shape)

    cache, embodiment_B = stages.before_plan(params, batch)
    if layout.num_codes:
        code_BtZ = jnp.zeros((num, layout.transitions, layout.slots), jnp.int32)
        code_BtZ = jax.lax.fori_loop(0, layout.num_codes, likeliest, code_BtZ)
        cache, _ = stages.given_plan(params, cache, code_BtZ)
    condition_BJD = stages.condition(params, cache, embodiment_B)
    return stages.flow(params, cache, condition_BJD, embodiment_B, batch["dataset"], key)


def random_batch(zeros: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A batch of noise of the same fields and shapes; nothing is masked."""
    rng = np.random.default_rng(0)

    def noise(name, array):
        if array.dtype == bool:
            return np.ones_like(array)
        if name == "text":
            return rng.integers(1, SMALLEST_VOCABULARY, array.shape, array.dtype)
        if array.dtype == np.uint8:
            return rng.integers(0, 256, array.shape, np.uint8)
        return rng.standard_normal(array.shape, np.float32) if array.dtype == np.float32 else array

    return {name: noise(name, array) for name, array in zeros.items()}


def _random_params(task, batch):
    params, _ = jax.jit(task.init)(jax.random.key(0), batch)
    networks = random_networks(task.pretrained_shapes())
    return task.model_params(params | ({PRETRAINED: networks} if networks else {}))


def _measured(way, arguments, steps, warm_up):
    begin = time.perf_counter()
    with placement.traced_for(one_device()):
        compiled = jax.jit(way).lower(*arguments).compile()
    compile_s = time.perf_counter() - begin
    times = seconds_of(functools.partial(compiled, *arguments), steps, warm_up)
    p50, p95 = np.percentile(times, [50, 95])
    found = {
        "p50_ms": milliseconds(p50),
        "p95_ms": milliseconds(p95),
        "calls": calls_of(way, *arguments),
        "compile_s": round(compile_s, 2),
        **program_mb(compiled),
    }
    return found, np.asarray(compiled(*arguments))


def _parts(stages, params, batch, key, steps, warm_up, report):
    """Median milliseconds of each stage, given what those before it made."""
    found = {}

    def timed(name, *arguments):
        report(f"compiling the part {name!r}")
        call = functools.partial(jax.jit(getattr(stages, name)), *arguments)
        with placement.traced_for(one_device()):
            found[name] = milliseconds(float(np.median(seconds_of(call, steps, warm_up))))
            return call()

    cache, embodiment_B = timed("context", params, batch)
    if "vision" in stages.groups:
        cache, _, _ = timed("vision", params, cache)
    if "plan" in stages.groups:
        _, _, cache = timed("plan", params, cache)
    condition_BJD = timed("condition", params, cache, embodiment_B)
    timed("flow", params, cache, condition_BJD, embodiment_B, batch["dataset"], key)
    return found
