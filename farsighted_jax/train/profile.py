"""A profiler trace of chosen steps, for TensorBoard or Perfetto."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax

FOLDER = "profile"


class Trace:
    """Traces a row of steps into `W/profile`; those that are done already are left out."""

    def __init__(self, workdir: Path | None, steps: Sequence[int], report: Callable[[str], None] = print):
        """Takes consecutive steps, counted from 1; a process without `workdir` traces nothing."""
        self._folder, self._steps = workdir and workdir / FOLDER, steps
        self._report, self._running = report, False

    def before(self, step: int) -> None:
        """Begins the trace where `step`, which is about to run, is the first that it wants."""
        if self._folder and step in self._steps and not self._running:
            jax.profiler.start_trace(self._folder)
            self._running = True

    def after(self, step: int, outputs: Any) -> None:
        """Ends the trace with its last step, once the device has done it."""
        if self._running and step == self._steps[-1]:
            jax.block_until_ready(outputs)
            self.close()

    def close(self) -> None:
        """Ends a trace that is running."""
        if self._running:
            self._running = False
            jax.profiler.stop_trace()
            self._report(f"profile of steps {self._steps[0]} to {self._steps[-1]}: {self._folder}")
