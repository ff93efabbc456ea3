"""Programs measured in turn, each in a process of its own, so that what slows the machine slows them all.

A worker prepares, says so, and then does as many steps as each line of its input asks for.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from farsighted_jax.bench.data import BenchError
from farsighted_jax.core.allocator import keep_freed_memory


def serve(prepare: Callable[..., tuple[Mapping[str, Any], Callable[[int], Sequence[float]]]]) -> None:
    """Main of a worker, whose argument is a JSON object.

    Args:
      prepare: (members of that object) -> what there is to say of it, and the function of a number of
        steps that does them and gives the seconds of each.
    """
    # Libraries may print; answers go to the caller alone.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    keep_freed_memory()  # as in training
    about, timed = prepare(**json.loads(sys.argv[1]))
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(timed(int(line))), file=answers, flush=True)


class Worker:
    """A running module with `serve`, from the caller's side; a context that ends it.

    Attributes:
      about: what it said of itself.
    """

    def __init__(self, module: str, settings: Mapping[str, Any], environment: Mapping[str, str]):
        """Starts it and waits until it is prepared.

        Raises:
          BenchError: it ended; the message has the last line of what it said.
        """
        self._module, self._errors = module, tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=os.environ | environment,
        )
        try:
            self.about = self._answer()
        except BaseException:
            self.close()
            raise

    def seconds(self, steps: int) -> list[float]:
        """Of each of some steps that it does now."""
        with contextlib.suppress(BrokenPipeError):  # `_answer` says what became of it
            print(steps, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _answer(self):
        line = self._process.stdout.readline()
        if line:
            return json.loads(line)
        status = self._process.wait()
        self._errors.seek(0)
        last = (self._errors.read().strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(f"python -m {self._module} ended with status {status}: {last}")


def alternating(workers: Sequence[Worker], rounds: int, steps: int) -> list[list[list[float]]]:
    """Seconds of the steps of each round of each worker; in a round one works after the other."""
    found: list[list[list[float]]] = [[] for _ in workers]
    for _ in range(rounds):
        for worker, times in zip(workers, found, strict=True):
            times.append(worker.seconds(steps))
    return found
