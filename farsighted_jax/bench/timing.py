"""What the benches of models share: random weights, seconds of calls, memory of a program."""

from __future__ import annotations

import time

import jax


def random_networks(shapes):
    """Small weights, so that nothing overflows, where and as the shapes say."""
    if not shapes:
        return {}
    leaves, structure = jax.tree.flatten(shapes)

    def values():
        keys = jax.random.split(jax.random.key(0), len(leaves))
        pairs = zip(keys, leaves, strict=True)
        return [0.02 * jax.random.normal(key, leaf.shape, leaf.dtype) for key, leaf in pairs]

    return jax.tree.unflatten(structure, jax.jit(values, out_shardings=[leaf.sharding for leaf in leaves])())


def seconds_of(function, steps, warm_up):
    """Seconds of each of some calls, waiting for what it computes; those to warm up are left out."""
    times = []
    for _ in range(warm_up + steps):
        begin = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - begin)
    return times[warm_up:]


def program_mb(compiled):
    """What a compiled program needs on one device, where the backend tells."""
    found = compiled.memory_analysis()
    if found is None:
        return {}
    used = found.argument_size_in_bytes + found.output_size_in_bytes - found.alias_size_in_bytes
    return {"memory/program_mb": round((used + found.temp_size_in_bytes) / 2**20, 1)}


def milliseconds(seconds):
    """Of seconds, rounded for a report."""
    return round(1e3 * seconds, 3)
