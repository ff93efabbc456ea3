"""Where metrics go: JSON lines always, TensorBoard if installed, and a progress display."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tqdm

from farsighted_jax.checkpoint.manifest import write_atomically

METRICS = "metrics.jsonl"


class MetricsWriter:
    """Appends one line a logged step to `W/metrics.jsonl`.

    Opening it at the step a run resumes from removes the lines after that step:
    a run that died between a logged step and its checkpoint logs them again.
    """

    def __init__(self, workdir: Path, resumed_step: int):
        """Opens the file.

        Args:
          workdir: the run folder.
          resumed_step: lines of later steps are dropped; 0 for a new run.
        """
        path = workdir / METRICS
        if path.exists():
            text = path.read_text(encoding="utf-8")
            kept = "".join(line + "\n" for line in text.splitlines() if 1 <= _step_of(line) <= resumed_step)
            if kept != text:
                write_atomically(path, kept)
        self._file = open(path, "a", encoding="utf-8")
        self._board = _tensorboard(workdir / "tensorboard", resumed_step)

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes one line. A value that is not finite becomes null, since JSON has no NaN."""
        finite = {name: value for name, value in values.items() if not _is_bad(value)}
        self._file.write(json.dumps({"step": step, **{name: finite.get(name) for name in values}}) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in finite.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(name, value, step)

    def close(self) -> None:
        """Closes the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


class Silence:
    """Stands for writer and display in every process but the first, which speaks for all."""

    def _nothing(self, *arguments: Any) -> None:
        pass

    write = begin = advance = show = message = close = _nothing


class Progress:
    """A bar with rate and time left on a terminal, plain lines otherwise."""

    def __init__(self, last_step: int, terminal: bool | None = None):
        """Starts the display; `terminal` defaults to whether standard error is one."""
        terminal = sys.stderr.isatty() if terminal is None else terminal
        self._first, self._last, self._start = 0, last_step, time.perf_counter()
        self._bar = tqdm.tqdm(total=last_step, unit="step") if terminal else None

    def begin(self, step: int) -> None:
        """Says that `step` steps are done and the next is about to run; rates count from here."""
        self._first, self._start = step, time.perf_counter()
        if self._bar is not None:
            self._bar.initial = self._bar.n = step
            self._bar.unpause()

    def advance(self, step: int) -> None:
        """Shows that `step` steps are done."""
        if self._bar is not None:
            self._bar.update(step - self._bar.n)

    def show(self, step: int, values: Mapping[str, Any]) -> None:
        """Shows the metrics of a logged step."""
        shown = {"loss": values.get("train/loss"), "samples/s": values.get("train/samples_per_s")}
        shown = {name: f"{value:.4g}" for name, value in shown.items() if isinstance(value, int | float)}
        if self._bar is not None:
            self._bar.set_postfix(shown)
            return
        seconds = (time.perf_counter() - self._start) / max(step - self._first, 1)
        left = tqdm.tqdm.format_interval(seconds * (self._last - step))
        text = ", ".join(f"{name} {value}" for name, value in shown.items())
        rate = f"{1 / max(seconds, 1e-9):.3g} steps/s"
        print(f"step {step}/{self._last}, {text}, {rate}, {left} left", flush=True)

    def message(self, text: str) -> None:
        """Prints a line without breaking the bar."""
        if self._bar is not None:
            self._bar.write(text)
        else:
            print(text, flush=True)

    def close(self) -> None:
        """Ends the display."""
        if self._bar is not None:
            self._bar.close()


def _tensorboard(folder, resumed_step):
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=resumed_step + 1)


def _step_of(line):
    """Step of a line; 0 for what is no line of ours (cut off by a crash)."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 0


def _is_bad(value):
    return isinstance(value, float) and not math.isfinite(value)
