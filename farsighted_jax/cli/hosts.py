"""Several processes of one command: the flags that say so, clusters that say so, and how they end.

    --coordinator HOST:PORT --num-processes N --process-id I    given by hand
    --coordinator auto                                          found by jax (Cloud TPU VMs)

Steps of SLURM and pods of GKE with TPUs say it by their environment; then no flag is needed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping

from farsighted_jax.cli import arguments

AUTO = "auto"

# So long the first process stays when it fails: the others may be about to say the same, and its
# end ends them.
_GRACE_S = 2.0


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds the flags; `session` reads them."""
    group = parser.add_argument_group("several processes")
    group.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0; or auto: as jax finds it")
    group.add_argument("--num-processes", "--num_processes", type=int, metavar="N", help="how many there are")
    group.add_argument("--process-id", "--process_id", type=int, metavar="I", help="which one this is")


@contextlib.contextmanager
def session(
    parser: argparse.ArgumentParser, flags: argparse.Namespace, *, saves_on_sigterm: bool = False
) -> Iterator[None]:
    """Starts `jax.distributed` if there are several processes, and sees to it that none is left behind.

    Args:
      parser: ends the program with status 2 where the flags do not fit together.
      flags: with those of `add_flags`.
      saves_on_sigterm: whether the command asks jax whether to stop. Otherwise SIGTERM ends the process.
    """
    given = _given(parser, flags)
    if given is None and not in_cluster(os.environ):
        yield
        return
    import jax

    jax.config.update("jax_enable_preemption_service", saves_on_sigterm)
    from farsighted_jax.core.hosts import HostError

    try:
        jax.distributed.initialize(**(given or {}))
    except (RuntimeError, ValueError) as error:
        raise HostError(f"the other processes cannot be reached: {error}") from error
    try:
        yield
    except Exception as error:
        if jax.process_count() == 1 or getattr(error, "known_to_all", False):
            raise
        _leave(error)


def own_options(flags: argparse.Namespace) -> dict[str, object]:
    """The options that say what a command does, which are the same in all its processes."""
    return {
        name: value
        for name, value in vars(flags).items()
        if name not in ("coordinator", "num_processes", "process_id")
    }


def in_cluster(environment: Mapping[str, str]) -> bool:
    """Whether the environment says that this is one of several processes, in a way that jax understands.

    A step of SLURM says how many tasks it has; a pod with TPUs names the workers of its slice
    and the number of slices. Cloud TPU VMs say it only to who asks their metadata server.
    """
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        return True
    workers = environment.get("TPU_PROCESS_ADDRESSES", environment.get("TPU_WORKER_HOSTNAMES", ""))
    return bool(workers) and ("," in workers or int(environment.get("MEGASCALE_NUM_SLICES", "1")) > 1)


def _given(parser, flags):
    """Arguments of `jax.distributed.initialize`; None if no flag is there."""
    counts = flags.num_processes, flags.process_id
    if flags.coordinator is None or flags.coordinator == AUTO:
        if counts != (None, None):
            arguments.fail(parser, "--num-processes and --process-id go with --coordinator HOST:PORT")
        return None if flags.coordinator is None else {}
    host, separator, port = flags.coordinator.rpartition(":")
    if not (host and separator and port.isdecimal()):
        arguments.fail(parser, f"--coordinator is {flags.coordinator!r}, expected HOST:PORT or {AUTO}")
    if None in counts:
        arguments.fail(parser, "--coordinator HOST:PORT needs --num-processes and --process-id")
    if not 0 <= flags.process_id < flags.num_processes:
        arguments.fail(parser, f"--process-id is {flags.process_id}, expected 0 to {flags.num_processes - 1}")
    if flags.num_processes == 1:
        return None
    return {
        "coordinator_address": flags.coordinator,
        "num_processes": flags.num_processes,
        "process_id": flags.process_id,
    }


def _leave(error):
    """Ends the process at once: an orderly end would wait for processes that wait for this one."""
    import jax

    from farsighted_jax.cli.main import FAILURE, explanation

    message = None if os.environ.get("FARSIGHTED_DEBUG") == "1" else explanation(error)
    if message is None:
        traceback.print_exception(error)
        message = f"{type(error).__name__}: {error}"
    print(f"farsighted: error: process {jax.process_index()}: {message}", file=sys.stderr)
    sys.stdout.flush()
    sys.stderr.flush()
    if jax.process_index() == 0:
        time.sleep(_GRACE_S)
    os._exit(FAILURE)
