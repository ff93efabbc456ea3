"""Environments in processes of their own: they are spawned, so that nothing of this process is in them."""

from __future__ import annotations

import concurrent.futures
import ctypes.util
import dataclasses
import importlib.util
import multiprocessing
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from farsighted_jax.rollout import recording
from farsighted_jax.rollout.environment import Environment, RolloutError
from farsighted_jax.rollout.simulators import SIMULATORS


@dataclasses.dataclass(frozen=True)
class Job:
    """One episode to record: see `recording.record`; `path` is where it goes."""

    task: str
    split: str
    index: int
    path: Path


def make_environment(name: str, settings: Mapping[str, Any]) -> Environment:
    """The environment of a name, in this process.

    Raises:
      RolloutError: no such environment, or see it.
    """
    if name not in SIMULATORS:
        raise RolloutError(f"no environment {name!r}, only {', '.join(SIMULATORS)}")
    return SIMULATORS[name].make(**settings)


def check_installed(name: str) -> None:
    """Finds out here, where it can be told, whether processes of an environment would come up.

    Raises:
      ModuleNotFoundError: its package is not installed.
      RolloutError: there is nothing that renders, or no extra brings its package.
    """
    package, install = SIMULATORS[name].package, SIMULATORS[name].install
    if importlib.util.find_spec(package) is None:
        raise (
            RolloutError(install) if install else ModuleNotFoundError(f"No module {package!r}", name=package)
        )
    renderer = os.environ.get("MUJOCO_GL", "osmesa")
    if renderer == "osmesa" and ctypes.util.find_library("OSMesa") is None:
        raise RolloutError(
            "no software renderer: libOSMesa was not found; on Debian or Ubuntu: sudo apt-get install "
            "libosmesa6; with a GPU's driver MUJOCO_GL=egl takes that"
        )


def recorded(
    name: str, settings: Mapping[str, Any], options: recording.Options, jobs: Sequence[Job], num_workers: int
) -> Iterator[dict[str, Any]]:
    """Records episodes into files, several at a time, in any order.

    Args:
      name: of the environment.
      settings: arguments of the environment.
      options: see `recording.Options`.
      jobs: what to record.
      num_workers: processes.

    Yields:
      Of each episode: "task", "split", "index", "seed", "success", "tries" and "steps".

    Raises:
      RolloutError: see `recording.record`; what else a worker raises. Episodes begun are finished.
    """
    spawn = multiprocessing.get_context("spawn")
    start = (name, dict(settings))
    with concurrent.futures.ProcessPoolExecutor(num_workers, spawn, _start, start) as pool:
        # A worker loads a task anew when it changes: neighbours in the list mostly share theirs.
        waiting = [pool.submit(_record, job, options) for job in jobs]
        try:
            for future in concurrent.futures.as_completed(waiting):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


_environment: Environment | None = None


def _start(name, settings):
    global _environment
    # A pool's workers outlive a parent that is killed, and would wait for work for ever.
    threading.Thread(target=_end_with, args=[multiprocessing.parent_process()], daemon=True).start()
    _environment = make_environment(name, settings)


def _end_with(parent):
    parent.join()
    os._exit(1)


def _record(job, options):
    episode = recording.record(_environment, job.task, job.split, job.index, options)
    facts = {key: episode[key] for key in ("seed", "success", "tries")}
    text = {"task": job.task, "instructions": _environment.instructions(job.task)}
    camera = _environment.spec.cameras[0]
    recording.write_episode(job.path, {**episode, **text}, camera.depth_unit_m)
    return {
        "task": job.task,
        "split": job.split,
        "index": job.index,
        "steps": len(episode["action"]),
        **facts,
    }
