"""`farsighted data validate | mirror | registry`: looks after datasets on disk, and prints those known."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from farsighted_jax.cli import data_mirror, data_registry, data_validate

PARTS = {"validate": data_validate, "mirror": data_mirror, "registry": data_registry}


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted data", description=__doc__)
    choices = parser.add_subparsers(dest="part", required=True)
    for name, part in PARTS.items():
        part.add_arguments(choices.add_parser(name, description=part.__doc__))
    flags = parser.parse_args(argv)
    return PARTS[flags.part].main(parser, flags)
