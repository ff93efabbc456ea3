"""`farsighted rollout record|run|serve-vla-eval`: demonstrations, and policies in closed loop.

The simulators need extras and a software renderer: `pip install -e '.[sim]'`, Debian's libosmesa6. Those of
vla-eval run elsewhere, and ask a server.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from farsighted_jax.cli import arguments, rollout_record, rollout_run, serve_vla_eval

SIMULATED = {"record": rollout_record, "run": rollout_run}
PARTS = {**SIMULATED, "serve-vla-eval": serve_vla_eval}


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    from farsighted_jax.rollout.simulators import SIMULATORS

    parser = argparse.ArgumentParser(prog="farsighted rollout", description=__doc__)
    choices = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        layout = argparse.RawDescriptionHelpFormatter
        own = choices.add_parser(name, description=part.__doc__, formatter_class=layout)
        if name in SIMULATED:
            _add_simulator(own, SIMULATORS)
        part.add_arguments(own)
    flags = parser.parse_args(argv)
    if flags.part in SIMULATED:
        if flags.resolution is None:
            flags.resolution = SIMULATORS[flags.env].resolution
        arguments.at_least(parser, flags, 1, "resolution", "workers")
    return PARTS[flags.part].main(parser, flags)


def _add_simulator(parser, simulators):
    parser.add_argument("--env", choices=simulators, default="metaworld")
    parser.add_argument("--tasks", nargs="+", required=True, help='tasks, groups of tasks, or "all"')
    sizes = ", ".join(f"{name} {simulator.resolution}" for name, simulator in simulators.items())
    parser.add_argument("--resolution", type=int, help=f"px (default: {sizes})")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)")
