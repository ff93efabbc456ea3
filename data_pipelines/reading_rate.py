"""How fast batches come and what memory that takes, whatever makes them."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


def reading_rate(
    batches: Iterator[Any],
    num_frames: Callable[[Any], int],
    *,
    seconds: float,
    num_batches: int | None = None,
    warm_up: int = 10,
) -> dict[str, Any]:
    """Reads batches and throws them away.

    Args:
      batches: endless.
      num_frames: batch -> frames that count in it.
      seconds: how long to read, unless `num_batches` is given.
      num_batches: how many batches to time.
      warm_up: batches read before time and memory are measured.

    Returns:
      For JSON: frames a second, processor time of all threads a frame, memory (resident in MB of
      2**20 bytes: while reading, its growth, and its peak since the process began).
    """
    for _ in range(warm_up):
        next(batches)
    rss = [resident_mb()]
    frames = count = 0
    begin, cpu_begin = time.perf_counter(), time.process_time()
    while count < num_batches if num_batches else time.perf_counter() - begin < seconds:
        frames += num_frames(next(batches))
        count += 1
        rss.append(resident_mb())
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu_begin
    return {
        "frames_per_s": round(frames / wall, 1),
        "cpu_ms_per_frame": round(1e3 * cpu / max(frames, 1), 4),
        "rss_mb": round(max(rss), 1),
        "rss_growth_mb": round(_growth(rss), 1),
        "peak_mb": round(peak_mb(), 1),
        "seconds": round(wall, 6),
        "batches": count,
    }


def resident_mb() -> float:
    """Resident memory of this process in MB; where /proc is absent, its peak so far."""
    return _status_mb("VmRSS")


def peak_mb() -> float:
    """Largest resident memory of this process since it began, in MB."""
    return _status_mb("VmHWM")


def _status_mb(key):
    # What getrusage says starts, on Linux, at the memory of the process that started this one.
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(key):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _growth(rss):
    """Mean of the last quarter less that of the second, since single values vary by the batches in flight."""
    quarter = max(len(rss) // 4, 1)
    second = rss[quarter : 2 * quarter] or rss[:1]
    return sum(rss[-quarter:]) / quarter - sum(second) / len(second)
