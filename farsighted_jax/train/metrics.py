"""From a step's metrics on the device to plain numbers, and what the host measures itself."""

from __future__ import annotations

import contextlib
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from farsighted_jax.core.task import Metrics


def to_host(metrics: Metrics, prefix: str = "train/") -> dict[str, float]:
    """Averages by name, sum / count; waits for the step. A count of 0 gives nothing for that name."""
    fetched = jax.device_get(metrics)
    return {
        prefix + name: float(total) / float(count) for name, (total, count) in fetched.items() if count != 0
    }


def memory() -> dict[str, float]:
    """Resident memory of the process and, where the backend tells, peak memory of the first device, in MB."""
    values = {"memory/rss_mb": round(_resident_bytes() / 2**20, 1)}
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return values | ({} if peak is None else {"memory/device_peak_mb": round(peak / 2**20, 1)})


def _resident_bytes():
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize()
    # The peak, not the present value; kilobytes except on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Stopwatch:
    """Wall time since the last logged step, and the part of it spent waiting for batches."""

    def __init__(self):
        self.restart()

    def restart(self) -> None:
        """Starts a new interval."""
        self._start, self._waited, self._samples = time.perf_counter(), 0.0, 0

    def wait_for(self, iterator):
        """The iterator's next item, None at its end; the time counts as input stall."""
        start = time.perf_counter()
        item = next(iterator, None)
        self._waited += time.perf_counter() - start
        return item

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leaves what happens inside (a save, an evaluation) out of the interval."""
        start = time.perf_counter()
        yield
        self._start += time.perf_counter() - start

    def count(self, samples: int) -> None:
        """Adds the samples of one step."""
        self._samples += samples

    def read(self) -> dict[str, float]:
        """Samples a second and the stall share of the interval."""
        elapsed = max(time.perf_counter() - self._start, 1e-9)
        return {
            "train/samples_per_s": round(self._samples / elapsed, 3),
            "train/input_stall_share": round(float(np.clip(self._waited / elapsed, 0, 1)), 5),
        }
