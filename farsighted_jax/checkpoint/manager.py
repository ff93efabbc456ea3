"""Writing checkpoints: Orbax for the arrays, a manifest for what is complete, retention.

Layout: `W/checkpoints/<step>/<item>/...` and `<step>/manifest.json`, which is
written after Orbax has committed the step; a step without one does not exist
for readers and is removed by the next run. `W/frozen/` holds the parameters
that are never trained, once, and each step refers to their digest.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp

from farsighted_jax.checkpoint import digest, manifest
from farsighted_jax.core import hosts, tree

CHECKPOINTS = "checkpoints"
FROZEN = "frozen"
_FROZEN_ITEM = "params"


class CheckpointWriteError(RuntimeError):
    """A checkpoint could not be written; the message names the folder and the bytes it needs."""


class CheckpointStore:
    """The writer of one run folder.

    Opening it removes what an earlier run left incomplete, so at most one may
    be open on a folder (the loop holds a lock).
    """

    def __init__(
        self,
        workdir: Path,
        *,
        keep_last: int,
        keep_every: int,
        async_save: bool = True,
        report: Callable[[str], None] = print,
    ):
        """Opens `workdir/checkpoints` for writing.

        Args:
          workdir: the run folder.
          keep_last: how many of the newest steps stay, at least 1.
          keep_every: steps that are multiples of it stay as well; 0 for none.
          async_save: whether files are written while training goes on.
          report: gets one line for each completed save.
        """
        if keep_last < 1 or keep_every < 0:
            raise ValueError(f"keep_last {keep_last} must be at least 1, keep_every {keep_every} at least 0")
        self._workdir = workdir
        self._folder = workdir / CHECKPOINTS
        self._keep_last, self._keep_every = keep_last, keep_every
        self._async, self._report = async_save, report
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._folder.mkdir(parents=True, exist_ok=True)
        if hosts.is_first():
            self._remove_leftovers()
        hosts.wait_for_all("opening the checkpoints")
        self._manager = self._open()

    def save(
        self, step: int, items: Mapping[str, Any], documents: Mapping[str, Any], frozen: str = ""
    ) -> str:
        """Starts saving a step; returns once the arrays may be overwritten.

        Args:
          step: number of completed training steps.
          items: name -> non-empty tree of dicts of arrays.
          documents: name -> JSON-able value.
          frozen: digest of the frozen parameters, from `save_frozen`.

        Returns:
          The state digest: of all items and the frozen parameters.

        Raises:
          CheckpointWriteError: this save, or the one before it, failed.
        """
        needed = sum(tree.num_bytes(item) for item in items.values())
        with hosts.together(f"saving step {step}"):
            self.wait()
            self._check_space(step, needed)
        digests = {name: digest.content_digests(item) for name, item in items.items()}
        content = {"step": step, "digests": digests, "frozen": frozen, "state": state_digest(digests, frozen)}
        arguments = {name: ocp.args.StandardSave(item) for name, item in items.items()}
        arguments |= {name: ocp.args.JsonSave(document) for name, document in documents.items()}
        try:
            self._manager.save(step, args=ocp.args.Composite(**arguments), force=True)
        except Exception as error:
            self._fail(step, needed, error)
            self.check()
        self._thread = threading.Thread(target=self._finish, args=(step, needed, content), name="checkpoint")
        self._thread.start()
        if not self._async:
            self.wait()
        return content["state"]

    def save_frozen(self, frozen: Any) -> str:
        """Writes the frozen parameters unless they are there already; returns their digest ("" for none)."""
        if not frozen:
            return ""
        digests = digest.content_digests(frozen)
        folder, partial = self._workdir / FROZEN, self._workdir / f".{FROZEN}.partial"
        written = {_FROZEN_ITEM: digests}

        def there():
            if (folder / manifest.NAME).is_file() and manifest.read(folder)["digests"] == written:
                return True
            for path in (partial, folder):
                shutil.rmtree(path, ignore_errors=True)
            return False

        def complete():
            manifest.write(partial, {"digests": written})
            partial.rename(folder)

        if not hosts.from_first(there, "looking for the frozen parameters"):
            with ocp.StandardCheckpointer() as checkpointer:
                checkpointer.save(partial.absolute() / _FROZEN_ITEM, frozen)
            hosts.from_first(complete, "writing the frozen parameters")
        return digest.tree_digest(digests)

    def check(self) -> None:
        """Raises the error of a save that failed in the background; costs nothing otherwise."""
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def wait(self) -> None:
        """Waits for the save under way; raises CheckpointWriteError if it failed."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self.check()

    def close(self) -> None:
        """Waits for the save under way and releases Orbax's threads."""
        try:
            self.wait()
        finally:
            self._manager.close()

    def _finish(self, step, needed, content):
        try:
            self._manager.wait_until_finished()
            if hosts.is_first():
                manifest.write(self._folder / str(step), content)
                self._retain()
        except Exception as error:
            self._fail(step, needed, error)
        else:
            self._report(f"saved step {step} in {self._folder / str(step)}, state digest {content['state']}")

    def _fail(self, step, needed, error):
        self._error = CheckpointWriteError(
            f"{self._folder / str(step)}: saving step {step} failed, {needed} bytes needed, "
            f"{shutil.disk_usage(self._folder).free} free: {error}"
        )
        self._error.__cause__ = error
        # A failed manager repeats its error for ever, so that a later save needs a new one. Where several
        # processes run there is none: the error ends the run.
        if jax.process_count() > 1:
            return
        with contextlib.suppress(Exception):
            self._manager.close()
        self._remove_leftovers()
        self._manager = self._open()

    def _check_space(self, step, needed):
        free = shutil.disk_usage(self._folder).free
        if free < needed:
            raise CheckpointWriteError(
                f"{self._folder / str(step)}: No space left: {needed} bytes needed, {free} free"
            )

    def _open(self):
        options = ocp.CheckpointManagerOptions(
            max_to_keep=None, save_root_metadata=False, enable_async_checkpointing=self._async
        )
        return ocp.CheckpointManager(self._folder.absolute(), options=options)

    def _retain(self):
        steps = manifest.complete_steps(self._folder)
        for step in set(steps) - retained(steps, self._keep_last, self._keep_every):
            # Renamed first: a half-deleted step must not be listed.
            doomed = (self._folder / str(step)).rename(self._folder / f"deleting-{step}")
            shutil.rmtree(doomed)

    def _remove_leftovers(self):
        complete = {str(step) for step in manifest.complete_steps(self._folder)}
        for path in self._folder.iterdir():
            if path.name not in complete:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def retained(steps: list[int], keep_last: int, keep_every: int) -> set[int]:
    """The steps that stay: the newest `keep_last` and the multiples of `keep_every`."""
    return set(sorted(steps)[-keep_last:]) | {step for step in steps if keep_every and step % keep_every == 0}


def state_digest(digests: Mapping[str, Mapping[str, str]], frozen: str = "") -> str:
    """One digest of all items of a checkpoint and the frozen parameters they belong to."""
    flat = {f"{name}/{path}": value for name, item in digests.items() for path, value in item.items()}
    return digest.tree_digest(flat | ({FROZEN: frozen} if frozen else {}))
