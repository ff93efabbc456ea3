"""Several processes that train the toy task together, each with its rows: started here, run as a script."""

import argparse
import dataclasses
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Ended:
    """How a process ended."""

    status: int
    output: str


def environment(devices=1):
    """Of a process that sees so many simulated devices."""
    flags = re.sub(r"(device_count)=\d+", rf"\1={devices}", os.environ["XLA_FLAGS"])
    return os.environ | {"XLA_FLAGS": flags, "PYTHONPATH": os.pathsep.join(sys.path)}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def started(num, *command, devices=1, own=()):
    """Starts `python *command` in so many processes; `own[i]` are further arguments of process i."""
    port, processes = free_port(), []
    for index in range(num):
        flags = () if num == 1 else (
            "--coordinator", f"127.0.0.1:{port}", "--num-processes", str(num), "--process-id", str(index)
        )  # fmt: skip
        mine = own[index] if index < len(own) else ()
        processes.append(
            subprocess.Popen(
                [sys.executable, *map(str, command), *map(str, mine), *flags],
                env=environment(devices),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )  # fmt: skip
        )
    return processes


def ended(processes, timeout=180):
    """Waits for them; kills what is left after the time."""
    try:
        return [Ended(process.wait(timeout), process.stdout.read()) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.stdout.close()


def trained(num, folder, *assignments, **options):
    """Trains the toy task in so many processes."""
    return ended(started(num, Path(__file__), folder, *assignments, **options))


def main():
    """Trains: `python toy_hosts.py WORKDIR key=value ...`, and whatever is wrong with this process."""
    import toy_task

    from farsighted_jax.cli import hosts
    from farsighted_jax.core.config import assign
    from farsighted_jax.sharding import place
    from farsighted_jax.sharding.mesh import make_mesh
    from farsighted_jax.train.loop import train

    parser = argparse.ArgumentParser()
    parser.add_argument("workdir")
    parser.add_argument("assignments", nargs="*")
    parser.add_argument("--fail", type=int, default=0, help="batch that this process cannot read")
    parser.add_argument("--fingerprint", default="toy-1", help="of this process's data")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that reading a batch takes")
    hosts.add_flags(parser)
    flags = parser.parse_intermixed_args()
    config = toy_task.toy_config()
    for assignment in flags.assignments:
        assign(config, *assignment.split("=", 1))

    class Stream(toy_task.ToyStream):
        def batch(self, step):
            if flags.fail and step == flags.fail:
                raise OSError(f"no batch {step}")
            print(f"batch {step} rows {self.rows}", flush=True)
            time.sleep(flags.pause)
            return super().batch(step)

    with hosts.session(parser, flags, saves_on_sigterm=True):
        mesh = make_mesh(config.mesh)
        rows = place.process_rows(mesh, config.batch_size)
        stream = Stream(config.batch_size, rows=rows, fingerprint=flags.fingerprint)
        train(toy_task.ToyTask(), stream, config, flags.workdir, mesh=mesh)


if __name__ == "__main__":
    main()
