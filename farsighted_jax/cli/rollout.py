"""`farsighted rollout record|run`: demonstrations of scripted experts, and policies in closed loop.

The simulators need extras and a software renderer: `pip install -e '.[sim]'`, Debian's libosmesa6.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

from farsighted_jax.cli import arguments, rollout_record, rollout_run

PARTS = {"record": rollout_record, "run": rollout_run}


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    from farsighted_jax.rollout.workers import ENVIRONMENTS

    parser = argparse.ArgumentParser(prog="farsighted rollout", description=__doc__)
    choices = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        layout = argparse.RawDescriptionHelpFormatter
        own = choices.add_parser(name, description=part.__doc__, formatter_class=layout)
        own.add_argument("--env", choices=ENVIRONMENTS, default="metaworld")
        own.add_argument("--tasks", nargs="+", required=True, help='tasks, or "all"')
        own.add_argument("--resolution", type=int, default=96, help="px (default: 96)")
        own.add_argument(
            "--workers", type=int, default=os.cpu_count(), help="processes (default: one a core)"
        )
        part.add_arguments(own)
    flags = parser.parse_args(argv)
    arguments.at_least(parser, flags, 1, "resolution", "workers")
    return PARTS[flags.part].main(parser, flags)
