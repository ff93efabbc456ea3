"""`farsighted bench data|step|lam`: measures a part of the system and says on what machine.

data  frames a second, memory and time to the first batch of the data pipeline.
step  samples a second, utilisation and memory of the training step, on random input.
lam   quality of a latent action model, a row a seed; finished rows are kept.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

from farsighted_jax.cli import arguments

SUBJECTS = ("data", "step", "lam")


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="farsighted bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("subject", choices=SUBJECTS)
    parser.add_argument("--json", action="store_true", help="print one JSON object on one line")
    parser.add_argument(
        "--batches", type=int, default=0, help="data: read this many batches (0: by --seconds)"
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="data: read for this long (default: 10)")
    parser.add_argument("--steps", type=int, default=20, help="step: time this many (default: 20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="lam: one row each (default: 0)")
    parser.add_argument("--out", help="lam: folder of the table and its runs")
    flags, config = arguments.parse(parser, argv)
    if flags.subject == "lam" and not flags.out:
        arguments.fail(parser, "bench lam needs --out DIR")
    if flags.steps < 1:
        arguments.fail(parser, f"--steps is {flags.steps}, expected >= 1")
    result = {"data": _data, "step": _step, "lam": _lam}[flags.subject](config, flags)
    print(json.dumps(result, indent=None if flags.json else 2))
    return 0


def _data(config, flags):
    from farsighted_jax.bench import data

    return data.run(
        config.data,
        batch_size=config.batch_size,
        num_batches=flags.batches or None,
        seconds=flags.seconds,
        readers=config.data.readers,
        prefetch=config.data.prefetch,
    )


def _step(config, flags):
    import sys

    from farsighted_jax.bench import step
    from farsighted_jax.cli.run import task_for

    # The result alone goes to stdout.
    return step.run(
        task_for(config), config, steps=flags.steps, report=lambda line: print(line, file=sys.stderr)
    )


def _lam(config, flags):
    from farsighted_jax.bench import lam
    from farsighted_jax.cli.evaluate import evaluate_run
    from farsighted_jax.cli.train import run

    return lam.run(config, flags.seeds, flags.out, train=run, evaluate=evaluate_run)
