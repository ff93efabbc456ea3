"""The `farsighted` command: finds the subcommand, runs it, turns typed errors into one line.

Nothing heavy is imported here, so that `--help` and a mistyped command answer at once.
"""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from farsighted_jax import __version__

COMMANDS = {
    "train": ("farsighted_jax.cli.train", "train a model, or resume where a run stopped"),
    "evaluate": ("farsighted_jax.cli.evaluate", "evaluate a checkpoint on a held-out split"),
    "label": ("farsighted_jax.cli.label", "write the codes of a dataset as an RLDS side dataset"),
    "text-features": (
        "farsighted_jax.cli.text_features",
        "compute the vectors of instructions once",
    ),
    "image-features": (
        "farsighted_jax.cli.image_features",
        "compute the tokens of every frame once",
    ),
    "encode": ("farsighted_jax.cli.encode", "codes of a video, with a sheet of its keyframes"),
    "decode": ("farsighted_jax.cli.decode", "frames and depth that codes predict from a picture"),
    "transfer": ("farsighted_jax.cli.transfer", "the motion of one clip on the first frame of another"),
    "retrieve": ("farsighted_jax.cli.retrieve", "clips whose codes are nearest to those of a clip"),
    "rollout": ("farsighted_jax.cli.rollout", "record demonstrations in a simulator, or run a policy there"),
    "serve": ("farsighted_jax.cli.serve", "answer clients of openpi's protocol with a released policy"),
    "publish": ("farsighted_jax.cli.publish", "write a trained model as one self-contained folder"),
    "convert": ("farsighted_jax.cli.convert", "turn pretrained weights of other implementations into ours"),
    "data": ("farsighted_jax.cli.data", "look after datasets: validate, copy or list them"),
    "inspect": ("farsighted_jax.cli.inspect", "look at a dataset or a resolved configuration"),
    "bench": ("farsighted_jax.cli.bench", "measure the data pipeline or a training step"),
    "plan": (
        "farsighted_jax.cli.plan",
        "compile a step for chips that are not there: memory, messages, time",
    ),
    "demo": ("farsighted_jax.cli.demo", "the whole chain in a simulator, and a page about it"),
    "doctor": ("farsighted_jax.cli.doctor", "check versions, devices and optional parts"),
}

OWN_PACKAGES = ("farsighted_jax", "data_pipelines")

USAGE_ERROR = 2
FAILURE = 1
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `farsighted COMMAND ...`.

    Args:
      argv: arguments after the program's name; by default those of the process.

    Returns:
      Exit status: that of the command; 2 for a mistake in the command line or
      the configuration, 1 for any other error this project has a type for.

    Raises:
      Exception: an error no type of this project describes keeps its
        traceback, as does every error under `FARSIGHTED_DEBUG=1`.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(usage())
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"farsighted-jax {__version__}")
        return 0
    name, rest = argv[0], argv[1:]
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return _complain(f"unknown command {name!r}{hint} (commands: {', '.join(COMMANDS)})", USAGE_ERROR)
    return run(COMMANDS[name][0], rest)


def run(module: str, argv: Sequence[str]) -> int:
    """Imports a command's module and runs its `main(argv)`; see `main` for errors and statuses."""
    try:
        return int(importlib.import_module(module).main(list(argv)) or 0)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of our output (`| head`) has seen enough; Python would complain once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILURE
    except Exception as error:
        if os.environ.get("FARSIGHTED_DEBUG") == "1":
            raise
        message = explanation(error)
        if message is None:
            raise
        from farsighted_jax.core.config import ConfigError

        return _complain(message, USAGE_ERROR if isinstance(error, ConfigError) else FAILURE)


def explanation(error: Exception) -> str | None:
    """The one line that says all a user needs, or None where only a traceback will do.

    An error whose type this project defines was foreseen: its message names
    file, key or value. So was the absence of an optional package.
    """
    if type(error).__module__.partition(".")[0] in OWN_PACKAGES:
        return str(error)
    # fsspec says "install gcsfs" in an ImportError of its own; what is missing stands in its cause.
    for cause in (error, error.__cause__):
        if isinstance(cause, ModuleNotFoundError) and cause.name:
            return _missing_package(cause.name.partition(".")[0])
    return None


def usage() -> str:
    """The text of `farsighted --help`."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {description}" for name, (_, description) in COMMANDS.items()]
    return "\n".join(
        [
            "usage: farsighted COMMAND [options]",
            "",
            *lines,
            "",
            "`farsighted COMMAND --help` lists the options of a command.",
            "Environment: FARSIGHTED_DEBUG=1 prints the full traceback of every error.",
        ]
    )


def _missing_package(package):
    from farsighted_jax.cli import installation

    for extra, modules in installation.EXTRAS.items():
        if package in modules:
            return f"this needs {package!r}, which is not installed; run: {installation.pip_command(extra)}"
    return None


def _complain(message, status):
    print(f"farsighted: error: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
