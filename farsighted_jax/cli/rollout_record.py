"""`farsighted rollout record`: demonstrations of scripted experts in a simulator, as an RLDS dataset.

    farsighted rollout record --env metaworld --tasks drawer-open door-open --episodes 50 --out DIR
    farsighted rollout record --env fetch --tasks all --episodes 50 --out DIR

Variants: "clean" is the expert alone, "noisy" adds noise to its translation (and keeps what fails), "video"
is "noisy" without actions. Training and validation have seeds of their own. Finished episodes are kept, so
that the same line resumes; needs the extra `sim` and a software renderer (Debian: libosmesa6).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from farsighted_jax.cli import arguments

VARIANTS = {
    "clean": {"noise": 0.0, "keep_failures": False},
    "noisy": {"noise": 0.3, "keep_failures": True},
    "video": {"noise": 0.3, "keep_failures": True},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `farsighted rollout record`."""
    parser.add_argument("--episodes", type=int, default=50, help="of each task for training (default: 50)")
    parser.add_argument("--val", type=int, default=5, help="of each task for validation (default: 5)")
    parser.add_argument("--variant", choices=VARIANTS, default="clean")
    parser.add_argument("--steps", type=int, default=0, help="of every episode (default: until success)")
    parser.add_argument("--cameras", nargs="+", help="roles (default: all that the simulator has)")
    parser.add_argument("--out", required=True, help="folder of datasets")
    parser.add_argument("--name", help="of the dataset (default: ENV_VARIANT)")
    parser.add_argument("--file-format", choices=("array_record", "tfrecord"), default="array_record")


def main(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    arguments.at_least(parser, flags, 1, "episodes", "val")
    arguments.at_least(parser, flags, 0, "steps")
    record(flags)
    return 0


def record(flags: argparse.Namespace, report=print) -> Path:
    """Records what is missing and writes the dataset.

    Args:
      flags: of the command.
      report: gets lines of progress.

    Returns:
      The folder of the dataset.

    Raises:
      RolloutError: an unknown task or camera, an expert that fails, or other data under that name.
      DatasetError: see `data_pipelines.builders.recordings`.
    """
    from data_pipelines.builders import recordings
    from farsighted_jax.rollout import workers
    from farsighted_jax.rollout.environment import RolloutError
    from farsighted_jax.rollout.simulators import SIMULATORS

    if not SIMULATORS[flags.env].has_expert:
        raise RolloutError(f"{flags.env} has no scripted expert to record")
    if flags.cameras is None:
        flags.cameras = SIMULATORS[flags.env].cameras
    name = flags.name or f"{flags.env}_{flags.variant}"
    tasks, spec = known_tasks(flags.env, flags.tasks), _spec(flags, name)
    settings = {"resolution": flags.resolution, "cameras": tuple(flags.cameras)}
    options = _options(flags)
    workers.check_installed(flags.env)
    recipe = {
        "environment": flags.env,
        "variant": flags.variant,
        "tasks": tasks,
        "episodes": {"train": flags.episodes, "val": flags.val},
        "options": dataclasses.asdict(options),
        "settings": SIMULATORS[flags.env].render_settings(**settings),
    }
    folder = recordings.dataset_folder(flags.out, name)
    if (found := recordings.written_recipe(folder)) is not None:
        made = {key: value for key, value in found.items() if key in recipe}
        if made == recipe:
            report(f"dataset: {folder}")
            return folder
        raise RolloutError(f"{folder} holds other data: {difference(made, recipe)}; choose another --name")
    parts = Path(flags.out) / f".{name}.episodes"
    _check_parts(parts, recipe)
    jobs = [
        workers.Job(task, split, index, parts / f"{split}-{task}-{index:05}.npz")
        for split, count in recipe["episodes"].items()
        for task in tasks
        for index in range(count)
    ]
    _run(flags, settings, options, jobs, report)
    paths = {split: [job.path for job in jobs if job.split == split] for split in recipe["episodes"]}
    recipe["attempts"] = _attempts(jobs)
    folder = recordings.write_dataset(flags.out, spec, paths, recipe, flags.file_format)
    shutil.rmtree(parts)
    report(f"dataset: {folder}")
    return folder


def known_tasks(environment: str, wanted: Sequence[str]) -> list[str]:
    """Names of tasks, each once; a group stands for its own, "all" for all.

    RolloutError names an unknown one.
    """
    from farsighted_jax.rollout.environment import RolloutError
    from farsighted_jax.rollout.simulators import SIMULATORS

    known, tasks = SIMULATORS[environment].groups, []
    for name in wanted:
        of_group = [task for task, group in known.items() if name in (group, "all")]
        tasks += [task for task in of_group or [name] if task not in tasks]
    if unknown := [task for task in tasks if task not in known]:
        raise RolloutError(f"{environment} has no task(s) {unknown}; it has {', '.join(sorted(known))}")
    return tasks


def _spec(flags, name):
    from farsighted_jax.rollout.environment import RolloutError
    from farsighted_jax.rollout.simulators import SIMULATORS

    known = SIMULATORS[flags.env].cameras
    if unknown := [role for role in flags.cameras if role not in known]:
        raise RolloutError(f"{flags.env} has no camera(s) {unknown}, only {sorted(known)}")
    spec = SIMULATORS[flags.env].dataset_spec(name, tuple(flags.cameras))
    return dataclasses.replace(spec, action=None) if flags.variant == "video" else spec


def _options(flags):
    from farsighted_jax.rollout.recording import Options

    return Options(num_steps=flags.steps, **VARIANTS[flags.variant])


def _check_parts(parts: Path, recipe: dict[str, Any]) -> None:
    """Episodes of an unfinished recording are taken only by the same recipe."""
    from data_pipelines.builders import recordings
    from farsighted_jax.rollout.environment import RolloutError

    path = parts / recordings.RECORDING
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != recipe:
            raise RolloutError(
                f"{parts} holds an unfinished recording that differs: {difference(found, recipe)}; "
                "finish it, or remove that folder"
            )
        return
    parts.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")


def _run(flags, settings, options, jobs, report):
    import tqdm

    from farsighted_jax.rollout import workers

    missing = [job for job in jobs if not job.path.exists()]
    if len(missing) < len(jobs):
        report(f"{len(jobs) - len(missing)} of {len(jobs)} episodes are there already")
    if not missing:
        return
    done = workers.recorded(flags.env, settings, options, missing, min(flags.workers, len(missing)))
    with tqdm.tqdm(done, total=len(missing), unit="episode") as bar:
        for facts in bar:
            bar.set_postfix_str(facts["task"])


def _attempts(jobs):
    """Episodes tried of each task, with those that the expert failed and that were tried anew."""
    import numpy as np

    attempts: dict[str, int] = {}
    for job in jobs:
        with np.load(job.path, allow_pickle=False) as file:
            attempts[job.task] = attempts.get(job.task, 0) + int(file["tries"])
    return attempts


def difference(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """The values in which one description differs from another, in words."""
    keys = [key for key in expected if found.get(key) != expected[key]]
    return "; ".join(f"{key} is {found.get(key)}, expected {expected[key]}" for key in keys)
