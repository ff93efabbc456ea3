"""Measures a policy server through its socket: how long one client waits, and what many at once get."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from farsighted_jax.bench import health
from farsighted_jax.bench.data import host
from farsighted_jax.bench.timing import milliseconds
from farsighted_jax.serving.client import PolicyClient
from farsighted_jax.serving.policy import load

SIDE = 224


class ServeBenchError(RuntimeError):
    """The server did not come up."""


def run(
    place: str, *, clients: int, batch: int, steps: int, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Starts `farsighted serve` in a process of its own, on this machine, and asks it.

    Args:
      place: release of a policy.
      clients: see `measured`.
      batch: requests that the server answers at once.
      steps: see `measured`.
      report: gets a line before the server is started.

    Returns:
      For JSON: that of `measured`, what was asked of what, and the machine.

    Raises:
      ServeBenchError: the server ended before it listened.
    """
    asked = observation(load(place))
    report(f"compiling the server for batches of up to {batch}")
    with _serving(place, batch) as port:
        found = measured(port, asked, clients=clients, steps=steps)
    return {
        "policy": place,
        "batch": batch,
        "image_px": SIDE,
        "cameras": len(asked["rgb"]),
        **found,
        "host": host(),
    }


def measured(port: int, asked: Mapping[str, Any], *, clients: int, steps: int) -> dict[str, Any]:
    """Asks a server that listens on 127.0.0.1.

    Clients are threads of this process, which shares the machine's cores with the server.

    Args:
      port: of the server.
      asked: an observation.
      clients: that ask at once, each for the next chunk as soon as it has one.
      steps: requests of each.

    Returns:
      "alone", one client: "p50_ms" and "p95_ms" from request to reply, "policy_p50_ms" and "policy_p95_ms" of
      them in the policy; "together", all clients: these, "clients", "requests_per_s", and "health_p95_ms" and
      "health_max_ms" of GET /healthz meanwhile.
    """
    with PolicyClient(port=port) as client:
        client.infer(asked)
    alone, _ = _asked(port, asked, 1, steps)
    with _health(port) as health_s:
        together, seconds = _asked(port, asked, clients, steps)
    return {
        "alone": alone,
        "together": {
            "clients": clients,
            "requests_per_s": round(clients * steps / seconds, 1),
            **together,
            "health_p95_ms": milliseconds(float(np.percentile(health_s, 95))),
            "health_max_ms": milliseconds(max(health_s)),
        },
        "steps": steps,
    }


def observation(policy: Any) -> dict[str, Any]:
    """Noise as a policy's observation, images of `SIDE` px."""
    rng, scene = np.random.default_rng(0), policy.blank()
    images = {role: rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8) for role in scene["rgb"]}
    return {**scene, "rgb": images}


def _asked(port, asked, clients, steps):
    """Latencies of all requests in words of the report, and seconds from the first to the last."""

    def ask(client):
        times = []
        for _ in range(steps):
            begin = time.perf_counter()
            reply = client.infer(asked)
            times.append((time.perf_counter() - begin, reply["policy_timing"]["infer_ms"] / 1e3))
        return times

    with contextlib.ExitStack() as stack, ThreadPoolExecutor(clients) as pool:
        connected = [stack.enter_context(PolicyClient(port=port)) for _ in range(clients)]
        begin = time.perf_counter()
        times = [pair for pairs in pool.map(ask, connected) for pair in pairs]
        seconds = time.perf_counter() - begin
    whole, policy = np.percentile(times, [50, 95], axis=0).T
    names = ("p50_ms", "p95_ms", "policy_p50_ms", "policy_p95_ms")
    return dict(zip(names, map(milliseconds, [*whole, *policy]), strict=True)), seconds


@contextlib.contextmanager
def _health(port: int) -> Iterator[list[float]]:
    """Seconds of health checks made meanwhile, at least one; there when the context is left."""
    line = [sys.executable, health.__file__, str(port)]
    process, seconds = subprocess.Popen(line, stdout=subprocess.PIPE, text=True), []
    try:
        process.stdout.readline()
        yield seconds
        process.terminate()
        seconds += json.loads(process.stdout.read())
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _serving(place: str, batch: int) -> Iterator[int]:
    line = [sys.executable, "-m", "farsighted_jax.cli.main", "serve", "--policy", place, "--port", "0"]
    process = subprocess.Popen([*line, "--batch", str(batch)], stdout=subprocess.PIPE, text=True)
    try:
        told = next((found for line in process.stdout if (found := re.search(r"ws://.*:(\d+)$", line))), None)
        if told is None:
            raise ServeBenchError(f"`farsighted serve --policy {place}` ended with status {process.wait()}")
        yield int(told[1])
    finally:
        process.terminate()
        process.wait()
