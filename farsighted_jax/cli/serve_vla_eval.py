"""A policy as a model server of vla-eval, which runs CALVIN, LIBERO and SimplerEnv in containers.

    farsighted rollout serve-vla-eval --policy RELEASE --benchmark libero
    vla-eval run --config configs/benchmarks/libero/spatial.yaml --server-url ws://127.0.0.1:8000

The benchmark is told what the policy reads (wrist camera, state). Actions are brought to what it takes:
units, rotation, gripper. Needs the extra `serve`; GET /health says when it is ready.
"""

from __future__ import annotations

import argparse
import asyncio

from farsighted_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `farsighted rollout serve-vla-eval`."""
    from farsighted_jax.rollout.benchmarks import BENCHMARKS

    parser.add_argument("--policy", required=True, help="release: a folder, gs://... or hf://...")
    parser.add_argument("--embodiment", help="dataset whose robot it acts for, where it knows several")
    parser.add_argument("--benchmark", required=True, choices=BENCHMARKS)
    parser.add_argument(
        "--execute", type=int, default=4, help="actions of a chunk taken before asking again (default: 4)"
    )
    parser.add_argument("--batch", type=int, default=1, help="shards that are answered at once (default: 1)")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="0 for a free one (default: 8000)")
    parser.add_argument("--token", default="", help="part of the address, ws://HOST:PORT/TOKEN")


def main(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    arguments.at_least(parser, flags, 1, "execute", "batch")
    arguments.at_least(parser, flags, 0, "port")
    from farsighted_jax.rollout.vla_eval_server import BenchmarkPolicy, serve
    from farsighted_jax.serving.policy import load

    policy = load(flags.policy, embodiment=flags.embodiment)
    acting = BenchmarkPolicy(policy, flags.benchmark, execute=flags.execute, batch_size=flags.batch)

    def ready(port):
        path = "/TOKEN" if flags.token else ""
        print(f"{flags.benchmark}: ws://{flags.host}:{port}{path}", flush=True)

    asyncio.run(serve(acting, flags.host, flags.port, token=flags.token, ready=ready))
    return 0
