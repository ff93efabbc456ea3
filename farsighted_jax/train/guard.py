"""What keeps a run and its folder safe: lock, signals, refusal of bad folders, stop on divergence."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import Any

LOCK = "run.lock"


class WorkdirError(ValueError):
    """A run folder cannot be used; the message names the path."""


class RunLockError(RuntimeError):
    """Another run uses the folder; the message names its process and host."""


class TrainingDivergedError(RuntimeError):
    """Too many steps in a row had a non-finite loss or gradient."""


class Interrupted(SystemExit):
    """A signal ended the run after its state was saved. Exit status 128 + signal: SIGTERM 143, SIGINT 130."""

    def __init__(self, signal_number: int, step: int):
        super().__init__(128 + signal_number)
        self.signal_number, self.step = signal_number, step


def check_workdir(workdir: Path) -> None:
    """Makes the run folder and tries to write in it.

    Raises:
      WorkdirError: it, or a parent, is a file, or it cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=workdir, prefix=".write-test-"):
            pass
    except OSError as error:
        reason = "it is a file" if workdir.is_file() else str(error)
        raise WorkdirError(f"run folder {str(workdir)!r} cannot be used: {reason}") from error


def check_divergence(values: Mapping[str, float], max_bad_steps: int, step: int, stream: Any) -> None:
    """Stops a run whose last steps were all not finite, before anything of it is saved.

    Args:
      values: metrics of a step on the host.
      max_bad_steps: from which number in a row on the run stops.
      step: number of steps done.
      stream: the data.

    Raises:
      TrainingDivergedError: names the step and the ids of its batch.
    """
    in_a_row = int(values["train/skipped_in_a_row"])
    if in_a_row < max_bad_steps:
        return
    first = step - in_a_row
    raise TrainingDivergedError(
        f"{in_a_row} steps in a row had a non-finite loss or gradient, up to step {step}; the state is that "
        f"after step {first}, the last checkpoint is intact. The batch of step {first + 1} has ids digest "
        f"{stream.ids_digest(stream.batch(first))}"
    )


class RunLock:
    """Holds a run folder for one process (an advisory lock on `W/run.lock`; it ends with the process)."""

    def __init__(self, workdir: Path, takeover: bool = False):
        """Takes the lock.

        Args:
          workdir: the run folder.
          takeover: replace the lock file of a run that still holds it; that run
            stops with an error when it next looks (`check`).

        Raises:
          RunLockError: another run holds the folder.
        """
        self._path = workdir / LOCK
        if takeover:
            self._path.unlink(missing_ok=True)
        self._file = open(self._path, "a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            self._file.seek(0)
            owner = self._file.read().strip()
            self._file.close()
            raise RunLockError(
                f"run folder {str(workdir)!r} is used by another run, {owner}; take it over explicitly if "
                "that run is to stop"
            ) from error
        self._file.truncate(0)
        self._file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}) + "\n")
        self._file.flush()

    def check(self) -> None:
        """Raises RunLockError if another run has taken the folder over."""
        try:
            ours = os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._path))
        except FileNotFoundError:
            ours = False
        if not ours:
            raise RunLockError(f"another run has taken over {str(self._path.parent)!r}; this one stops")

    def release(self) -> None:
        """Gives the folder back."""
        self._file.close()


class InterruptGuard:
    """Remembers SIGTERM or SIGINT instead of dying of it, so that the loop can save first.

    Further signals while the run is saving change nothing. Handlers are put
    back on exit. Outside the main thread, where Python allows no handlers, it
    does nothing.
    """

    def __init__(self):
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> InterruptGuard:
        """Installs the handlers."""
        for number in (signal.SIGTERM, signal.SIGINT):
            try:
                self._previous[number] = signal.signal(number, self._remember)
            except ValueError:
                break
        return self

    def __exit__(self, *exception: object) -> None:
        """Puts the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = self.signal_number or number
