"""Measures the data pipeline alone: frames a second, memory, time to the first batch."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Imports are counted apart (`import_s`): a training process has most of them already.
_BEGIN = time.perf_counter()
from data_pipelines.dataset import open_split  # noqa: E402
from data_pipelines.mixture import parse_mixture  # noqa: E402
from data_pipelines.reading_rate import reading_rate  # noqa: E402
from data_pipelines.stream import open_stream  # noqa: E402
from data_pipelines.stream_settings import StreamSettings  # noqa: E402
from data_pipelines.trajectory import keyframe_steps  # noqa: E402

IMPORT_S = time.perf_counter() - _BEGIN


class BenchError(RuntimeError):
    """A measurement that cannot be made; the message says what it needs."""


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
      For JSON: `reading_rate` of frames that exist, not masked ones; `first_batch_s` runs from
      opening the dataset to the first batch, with the record index and the statistics in their
      cache; `memory` is how the budget was divided.
    """
    open_stream(data_config, batch_size=batch_size, seed=0)
    begin = time.perf_counter()
    stream = open_stream(data_config, batch_size=batch_size, seed=0)
    batches = stream.batches(0, readers=readers, prefetch=prefetch)
    _, first = next(batches)
    first_batch_s = time.perf_counter() - begin
    rate = reading_rate(
        batches,
        lambda batch: int(batch[1]["frame_valid"].sum()),
        seconds=seconds,
        num_batches=num_batches,
        warm_up=warm_up,
    )
    batches.close()
    return {
        **rate,
        "samples_per_s": round(rate["batches"] * batch_size / rate["seconds"], 1),
        "first_batch_s": round(first_batch_s, 3),
        "import_s": round(IMPORT_S, 3),
        "batch_size": batch_size,
        "frames_per_sample": first["frame_valid"].shape[1],
        "resolution": stream.preprocessing.resolution,
        "augment": bool(data_config.get("augment", False)),
        "readers": readers,
        "prefetch": prefetch,
        "memory": stream.memory,
        "mixture": list(stream.names),
        "host": host(),
    }


def beside_tf_data(
    data_config: Mapping[str, Any],
    *,
    batch_size: int,
    seconds: float,
    readers: int,
    prefetch: int,
    warm_up: int = 10,
) -> dict[str, Any]:
    """Measures the reader and a plain tf.data pipeline of the same windows, each in a process of its own.

    Both read whole windows of RGB without augmentation; needs the extra `build`.

    Args:
      data_config: the data section of a configuration; its mixture is one RLDS dataset of TFRecord files.
      batch_size: samples a batch.
      seconds: how long each reads.
      readers: threads of the reader; tf.data takes as many as it sees fit.
      prefetch: batches that the reader reads ahead.
      warm_up: batches that the reader reads before its time counts; tf.data, which keeps nothing, reads 10.

    Returns:
      For JSON: "reader" and "tf_data" as `reading_rate` gives them; "times" (frames a second of the reader
      per frame a second of tf.data), "cpu_times" (likewise, processor time) and "memory_share" (peaks).

    Raises:
      BenchError: a mixture of several, another format, or a process that failed.
    """
    plain = {"depth": "off", "augment": False, "whole_windows": True, "offset_scales": (1.0,)}
    data_config = {**data_config, **plain}
    settings = StreamSettings.of(data_config)
    if importlib.util.find_spec("tensorflow") is None:
        raise BenchError("tf.data needs the package 'tensorflow', run: pip install -e '.[build]'")
    name, *others = parse_mixture(settings.mixture, settings.dir)
    split = open_split(settings.dir, name, settings.split, cache_dir=settings.cache_dir or None)
    if others or not list(Path(split.directory).glob("*.tfrecord-*")):
        raise BenchError(
            f"data.mixture is {settings.mixture!r}; expected one RLDS dataset of TFRecord files, which "
            "is all that a plain tf.data pipeline reads"
        )
    rate = {"seconds": seconds}
    ours = {"batch_size": batch_size, "readers": readers, "prefetch": prefetch, "warm_up": warm_up, **rate}
    theirs = {
        "folder": split.directory,
        "split": split.split,
        "rgb_key": split.spec.camera(settings.camera).rgb_key,
        "action_key": split.spec.action_key if split.spec.action else "",
        "steps": keyframe_steps(split.spec.hz, settings.offsets_of(name), name),
        "action_horizon": settings.action_horizon,
        "resolution": settings.resolution,
        "batch_size": batch_size,
        "rate": rate,
    }
    found = {
        "reader": _in_process("farsighted_jax.bench.data", {"data_config": dict(data_config), **ours}),
        "tf_data": _in_process("data_pipelines.tf_data", theirs),
    }
    reader, tf_data = found["reader"], found["tf_data"]
    return found | {
        "times": round(reader["frames_per_s"] / tf_data["frames_per_s"], 2),
        "cpu_times": round(tf_data["cpu_ms_per_frame"] / reader["cpu_ms_per_frame"], 2),
        "memory_share": round(reader["peak_mb"] / tf_data["peak_mb"], 3),
    }


def _in_process(module, settings):
    command = [sys.executable, "-m", module, json.dumps(settings)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise BenchError(f"python -m {module} ended with status {done.returncode}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


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


if __name__ == "__main__":
    print(json.dumps(run(**json.loads(sys.argv[1]))))
