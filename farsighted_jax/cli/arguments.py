"""The command line shared by all commands: plain flags, a configuration file, overrides.

    --config FILE[:ARG]  --config.a.b=VALUE  --config.a.b VALUE

Mistakes end the process with status 2 before anything touches a device.
"""

from __future__ import annotations

import argparse
import difflib
import re
from collections.abc import Sequence
from typing import NoReturn

import ml_collections

from farsighted_jax.core import config as config_lib

HELP = (
    "configuration: --config FILE[:ARG] names it, --config.a.b=VALUE (or --config.a.b VALUE) changes one "
    "key; the last of several wins"
)


def parse(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, ml_collections.ConfigDict]:
    """Reads plain flags through `parser` and the configuration from `--config...`.

    Args:
      parser: knows every plain flag of the command; its help gets a line about `--config`.
      argv: the command's arguments.

    Returns:
      The plain flags, and the locked configuration with all overrides applied.

    Raises:
      SystemExit: status 2 and one line on stderr for an unknown flag or key
        (naming the nearest), a missing or wrong value, or no configuration.
    """
    namespace, reference, overrides = parse_reference(parser, argv)
    try:
        return namespace, config_lib.load(reference, overrides)
    except config_lib.ConfigError as error:
        fail(parser, str(error))


def parse_reference(
    parser: argparse.ArgumentParser, argv: Sequence[str]
) -> tuple[argparse.Namespace, str, list[str]]:
    """As `parse` without reading the file: plain flags, FILE[:ARG], overrides `key=value`."""
    parser.epilog = parser.epilog or HELP
    reference, overrides, rest = _split(parser, list(argv))
    namespace = parse_flags(parser, rest)
    if reference is None:
        fail(parser, "--config FILE[:ARG] is required")
    return namespace, reference, overrides


def parse_flags(parser: argparse.ArgumentParser, argv: Sequence[str]) -> argparse.Namespace:
    """As `parse` for a command without a configuration; an unknown flag names the nearest known one."""
    parser.allow_abbrev = False
    namespace, unknown = parser.parse_known_args(list(argv))
    if unknown:
        known = sorted({"--config", *re.findall(r"(?<!\S)--\w[\w-]*", parser.format_help())})
        near = difflib.get_close_matches(unknown[0].partition("=")[0], known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        fail(parser, f"unrecognised argument {unknown[0]!r}{hint}")
    return namespace


def fail(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """Ends the process with status 2 and one line on stderr."""
    parser.exit(2, f"farsighted: error: {message}\n")


def _split(parser, argv):
    """Takes what starts with --config out of argv: (reference or None, overrides, rest)."""
    reference, overrides, rest = None, [], []
    while argv:
        argument = argv.pop(0)
        flag, separator, value = argument.partition("=")
        if flag != "--config" and not flag.startswith("--config."):
            rest.append(argument)
            continue
        if not separator:
            if not argv or argv[0].startswith("--"):
                fail(parser, f"{flag} needs a value")
            value = argv.pop(0)
        if flag == "--config":
            reference = value
        else:
            overrides.append(f"{flag.removeprefix('--config.')}={value}")
    return reference, overrides, rest


def at_least(parser: argparse.ArgumentParser, flags: argparse.Namespace, lowest: int, *names: str) -> None:
    """Ends the program with status 2 where one of these options is below `lowest`."""
    for name in names:
        if getattr(flags, name) < lowest:
            value = getattr(flags, name)
            fail(parser, f"--{name.replace('_', '-')} is {value}, expected at least {lowest}")
