"""What keeps a run and its folder safe: lock, signals, refusal of bad folders, stop on divergence."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType

import jax
from jax.experimental import multihost_utils

from farsighted_jax.core import hosts

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


def check_divergence(
    values: Mapping[str, float], max_bad_steps: int, step: int, ids_digest: Callable[[int], str]
) -> None:
    """Stops a run whose last steps were all not finite, before anything of it is saved.

    Args:
      values: metrics of a step on the host.
      max_bad_steps: from which number in a row on the run stops.
      step: number of steps done.
      ids_digest: batch (counted from 0) -> digest of its ids.

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
        f"{ids_digest(first)}"
    )


def locked(workdir: Path, takeover: bool = False) -> RunLock | None:
    """Holds a run folder for all processes of a run; only the first has the lock, the others None.

    Raises:
      RunLockError: another run holds the folder.
      HostError: the first process could not take the lock, or a process has another folder at this path.
    """
    lock = None
    try:
        with hosts.together("taking the run folder"):
            if hosts.is_first():
                lock = RunLock(workdir, takeover)
        written = hosts.from_first(lambda: (workdir / LOCK).read_text(encoding="utf-8"), "reading the lock")
        with hosts.together("looking for the run folder"):
            _check_same_folder(workdir / LOCK, written)
    except Exception:
        if lock:
            lock.release()
        raise
    return lock


def _check_same_folder(path, written):
    if not path.is_file() or path.read_text(encoding="utf-8") != written:
        raise WorkdirError(
            f"run folder {str(path.parent)!r} is not the one that process 0 holds; all processes of a run "
            "need one folder on shared storage"
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

    Where several processes run, SIGTERM stays with jax, whose coordination
    service tells all of them after which step to stop; SIGINT is taken for one.
    """

    def __init__(self):
        self.signal_number: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> InterruptGuard:
        """Installs the handlers."""
        alone = {signal.SIGTERM: self._remember, signal.SIGINT: self._remember}
        for number, handler in (alone if jax.process_count() == 1 else {signal.SIGINT: _terminate}).items():
            try:
                self._previous[number] = signal.signal(number, handler)
            except ValueError:
                break
        return self

    def stops_after(self, step: int) -> bool:
        """Whether the run is to end with this step; to be asked after every one, by every process."""
        if jax.process_count() > 1 and multihost_utils.reached_preemption_sync_point(step):
            self.signal_number = signal.SIGTERM
        return self.signal_number is not None

    def __exit__(self, *exception: object) -> None:
        """Puts the previous handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal_number = self.signal_number or number


def _terminate(number: int, frame: FrameType | None) -> None:
    os.kill(os.getpid(), signal.SIGTERM)
