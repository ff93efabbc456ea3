"""Measures the data pipeline alone: frames a second, memory, time to the first batch."""

from __future__ import annotations

import os
import platform
import resource
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Imports are counted apart (`import_s`): a training process has most of them already.
_BEGIN = time.perf_counter()
from data_pipelines.stream import open_stream  # noqa: E402

IMPORT_S = time.perf_counter() - _BEGIN


def run(
    data_config: Mapping[str, Any],
    *,
    batch_size: int = 32,
    seconds: float = 10.0,
    num_batches: int | None = None,
    readers: int = 4,
    prefetch: int = 4,
    warm_up: int = 10,
) -> dict[str, Any]:
    """Reads training batches and throws them away.

    Args:
      data_config: the data section of a configuration.
      batch_size: samples a batch.
      seconds: how long to read, unless `num_batches` is given.
      num_batches: how many batches to time.
      readers: threads.
      prefetch: batches read ahead.
      warm_up: batches read before time and memory are measured.

    Returns:
      For JSON. `frames_per_s` counts frames that exist, not masked ones;
      `cpu_ms_per_frame` is processor time of all threads; `first_batch_s` runs
      from opening the dataset to the first batch, with the record index and
      the statistics in their cache; memory is resident, its peak and its growth, in MB (2**20
      bytes).
    """
    open_stream(data_config, batch_size=batch_size, seed=0)
    begin = time.perf_counter()
    stream = open_stream(data_config, batch_size=batch_size, seed=0)
    batches = stream.batches(0, readers=readers, prefetch=prefetch)
    next(batches)
    first_batch_s = time.perf_counter() - begin
    for _ in range(warm_up):
        next(batches)
    rss = [resident_mb()]
    frames = count = 0
    begin, cpu_begin = time.perf_counter(), time.process_time()
    while count < num_batches if num_batches else time.perf_counter() - begin < seconds:
        _, batch = next(batches)
        frames += int(batch["frame_valid"].sum())
        count += 1
        rss.append(resident_mb())
    wall, cpu = time.perf_counter() - begin, time.process_time() - cpu_begin
    batches.close()
    return {
        "frames_per_s": round(frames / wall, 1),
        "samples_per_s": round(count * batch_size / wall, 1),
        "cpu_ms_per_frame": round(1e3 * cpu / max(frames, 1), 4),
        "rss_mb": round(max(rss), 1),
        "rss_growth_mb": round(_growth(rss), 1),
        "first_batch_s": round(first_batch_s, 3),
        "import_s": round(IMPORT_S, 3),
        "seconds": round(wall, 2),
        "batches": count,
        "batch_size": batch_size,
        "frames_per_sample": len(batch["frame_valid"][0]) if count else 0,
        "resolution": stream.preprocessing.resolution,
        "augment": bool(data_config.get("augment", False)),
        "readers": readers,
        "prefetch": prefetch,
        "mixture": list(stream.names),
        "host": host(),
    }


def _growth(rss):
    """Mean of the last quarter less that of the second, since single values vary by the batches in flight."""
    quarter = max(len(rss) // 4, 1)
    second = rss[quarter : 2 * quarter] or rss[:1]
    return sum(rss[-quarter:]) / quarter - sum(second) / len(second)


def resident_mb() -> float:
    """Resident memory of this process in MB; where /proc is absent, its peak so far."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def host() -> dict[str, Any]:
    """What a measurement was made on: processor, cores this process may use, load, Python."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(
            (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model
        )
    except OSError:
        pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cpu": model,
        "cores": cores,
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "system": platform.system(),
    }
