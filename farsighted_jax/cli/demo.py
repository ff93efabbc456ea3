"""`farsighted demo`: from recordings of a simulator to a policy in closed loop, and one page about it.

Three tasks of Meta-World: the scripted experts are recorded, a latent action model learns from the images
alone, a policy is pretrained on its codes, finetuned with actions and let loose on seeds it has never seen,
beside a plain behaviour cloner, the expert and random actions. Every stage is a command that anybody could
type; it is shown, its output goes to OUT/logs, and the same line again goes on where it stopped. OUT gets
index.html, which needs nothing else, and results.json. Needs the extras `sim`, `build`, `plot` and `convert`,
and a software renderer (Debian: libosmesa6); `bash launch/demo.sh` brings them.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from pathlib import Path

from farsighted_jax.cli import arguments

ROOT = Path(__file__).resolve().parents[2]
CONFIG = "configs/metaworld_demo.py"
TASKS = ("drawer-open", "door-open", "button-press-topdown")

# Of a network with patches of 14 px, in place of the small encoder and its patches of 16.
PRETRAINED_SIZES = ("--config.model.patch=14", "--config.data.resolution=98")

HEARTBEAT_S = 30


class DemoError(RuntimeError):
    """A stage failed; the message has the end of what it said and where the rest stands."""


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is done.

    Attributes:
      episodes: recorded of each task for training.
      val: recorded of each task for validation.
      test_episodes: of each task, in closed loop.
      steps: stage -> training steps, in place of the configuration's.
      rollout: more options of `farsighted rollout run`.
    """

    episodes: int
    val: int
    test_episodes: int
    steps: Mapping[str, int] = dataclasses.field(default_factory=dict)
    rollout: tuple[str, ...] = ()


FULL = Size(50, 3, 20)
QUICK = Size(2, 1, 2, dict.fromkeys(("lam", "pretrain", "finetune", "cloner"), 4), ("--max-steps", "20"))


@dataclasses.dataclass(frozen=True)
class Command:
    """One `farsighted` command of the demo.

    Attributes:
      name: of its log.
      arguments: as typed.
      made: what is there once it has been run; None for one that sees by itself what is left to do.
    """

    name: str
    arguments: tuple[str, ...]
    made: Path | None = None

    @property
    def typed(self) -> str:
        """The line that a shell would take."""
        return shlex.join(("farsighted", *self.arguments))


# Commands one after the other; the lanes of a phase run side by side, phases one after the other.
Lane = Sequence[Command]
Phase = Sequence[Lane]


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    layout = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(prog="farsighted demo", description=__doc__, formatter_class=layout)
    parser.add_argument(
        "--quick", action="store_true", help="a few steps of everything, to see that it works"
    )
    parser.add_argument("--out", help="folder of everything (default: runs/demo or runs/demo-quick)")
    parser.add_argument(
        "--image-encoder",
        metavar="NAME",
        help="a converted network such as dinov2-vits14, in place of a small one",
    )
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)  # when launch/demo.sh began
    flags = arguments.parse_flags(parser, argv)
    out = Path(flags.out or ("runs/demo-quick" if flags.quick else "runs/demo"))
    page = run(out, QUICK if flags.quick else FULL, flags.image_encoder, flags.started or time.time())
    print(f"\npage: {page.resolve()}\nnumbers: {(out / 'results.json').resolve()}")
    return 0


def run(out: Path, size: Size, image_encoder: str | None, started: float) -> Path:
    """Runs every stage that is not done yet and writes results.json and the page.

    Args:
      out: folder of everything that is written.
      size: how much is done.
      image_encoder: see the command.
      started: seconds since the epoch, where `wall_minutes` counts from.

    Returns:
      The page.

    Raises:
      DemoError: a stage failed.
    """
    from farsighted_jax.cli.demo_page import write_demo_page
    from farsighted_jax.rollout.workers import check_installed

    check_installed("metaworld")
    (out / "logs").mkdir(parents=True, exist_ok=True)
    stages = phases(out, size, image_encoder)
    side_by_side = _backend() == "cpu"
    for phase in stages:
        # An accelerator is one process's at a time.
        for lanes in [phase] if side_by_side else [[lane] for lane in phase]:
            _run_lanes(lanes, out / "logs", started)
    results = _results(out, started) | {"quick": size == QUICK}
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    typed = [command.typed for phase in stages for lane in phase for command in lane]
    return write_demo_page(out, results, typed)


def phases(out: Path, size: Size, image_encoder: str | None = None) -> list[Phase]:
    """All commands of the demo; nothing is run."""
    data, policy, cloner = out / "data", out / "policy", out / "cloner-policy"

    def train(stage, *more):
        config = ("--config", f"{ROOT / CONFIG}:{stage}", f"--config.data.dir={data}")
        if stage in size.steps:
            more = (*more, f"--config.total_steps={size.steps[stage]}")
        if image_encoder and stage == "lam":
            more = (*more, f"--config.model.image_encoder={image_encoder}")
        if image_encoder and stage != "cloner":
            more = (*more, *PRETRAINED_SIZES)
        return Command(stage, ("train", *config, *more, "--workdir", str(out / stage)))

    def evaluated(stage, *more):
        made = out / stage / "eval.json"
        return Command(f"{stage}-evaluate", ("evaluate", "--checkpoint", str(out / stage), *more), made)

    def published(stage, folder):
        return Command(f"{stage}-publish", ("publish", str(out / stage), str(folder)), folder)

    def closed_loop(name, folder, *more):
        run = (
            "rollout",
            "run",
            "--policy",
            str(folder),
            "--tasks",
            *TASKS,
            "--episodes",
            str(size.test_episodes),
        )
        return Command(name, (*run, *size.rollout, *more, "--out", str(out / name)))

    recorded = ("--episodes", str(size.episodes), "--val", str(size.val), "--cameras", "primary")
    record = Command("record", ("rollout", "record", "--tasks", *TASKS, *recorded, "--out", str(data)))
    chain = [
        train("lam"),
        evaluated("lam", "--evaluators", "reconstruction,codebook,transfer"),
        train("pretrain", f"--config.lam={out / 'lam'}"),
        train("finetune", f"--config.init={out / 'pretrain'}"),
        evaluated("finetune"),
        published("finetune", policy),
    ]
    alone = [train("cloner"), published("cloner", cloner), closed_loop("rollout-cloner", cloner)]
    return [[[record]], [chain, alone], [[closed_loop("rollout", policy, "--films", "1")]]]


def _run_lanes(lanes, logs, started):
    """Runs lanes side by side, each on its share of the cores; reports until all have ended."""
    cores = sorted(os.sched_getaffinity(0))
    shares = [cores[index :: len(lanes)] or cores for index in range(len(lanes))]
    running = {}
    with ThreadPoolExecutor(len(lanes)) as pool:
        futures = [
            pool.submit(_run_lane, lane, share, logs, started, running)
            for lane, share in zip(lanes, shares, strict=True)
        ]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, HEARTBEAT_S, FIRST_EXCEPTION)
            if any(future.exception() for future in done):
                for process in list(running.values()):
                    process.terminate()
                break
            for name in list(running):
                _say(started, f"{name}: {_last_line(logs / f'{name}.log')}")
    for future in futures:
        future.result()


def _run_lane(lane, cores, logs, started, running):
    for command in lane:
        if command.made and command.made.exists():
            continue
        _say(started, command.typed)
        with open(logs / f"{command.name}.log", "w", encoding="utf-8") as log:
            line = [sys.executable, "-m", "farsighted_jax.cli.main", *command.arguments]
            process = subprocess.Popen(line, stdout=log, stderr=subprocess.STDOUT, env=_environment(logs))
            # Before it has started any thread, so that all of them inherit it.
            os.sched_setaffinity(process.pid, cores)
            running[command.name] = process
            status = process.wait()
            del running[command.name]
        if status:
            raise DemoError(_failure(command, status, logs))


def _environment(logs):
    """Programs are compiled once for all commands."""
    compiled = {
        "JAX_COMPILATION_CACHE_DIR": str(logs.parent / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "1",
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    return compiled | dict(os.environ) | {"PYTHONPATH": compiled["PYTHONPATH"]}


def _failure(command, status, logs):
    path = logs / f"{command.name}.log"
    end = "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-5:])
    return f"{command.typed}\nended with status {status}; the end of {path}:\n{end}"


def _last_line(log: Path) -> str:
    text = log.read_text(encoding="utf-8", errors="replace").replace("\r", "\n")
    # XLA frames its complaints by lines of asterisks.
    words = (line.strip() for line in reversed(text.splitlines()) if any(map(str.isalnum, line)))
    return next(words, "")[:100]


def _say(started, line):
    print(f"[{(time.time() - started) / 60:5.1f} min] {line}", flush=True)


def _backend() -> str:
    """Of the stages; asked in a process of its own, which gives the device back."""
    line = [sys.executable, "-c", "import jax; print(jax.default_backend())"]
    return subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()[-1]


def _results(out, started):
    """What results.json holds."""
    policy, cloner = (
        json.loads((out / name / "results.json").read_text(encoding="utf-8"))
        for name in ("rollout", "rollout-cloner")
    )
    rates = {name: policy[name] for name in ("policy", "expert", "random")} | {"cloner": cloner["policy"]}
    return {
        "success": rates["policy"]["task_mean"],
        "random_success": rates["random"]["task_mean"],
        "cloner_success": rates["cloner"]["task_mean"],
        "expert_success": rates["expert"]["task_mean"],
        "wall_minutes": round((time.time() - started) / 60, 2),
        "episodes_per_task": min(entry["episodes"] for entry in rates["policy"]["tasks"].values()),
        "tasks": list(TASKS),
        "commit": _commit(),
        "cores": len(os.sched_getaffinity(0)),
        "per_task": {name: {task: entry["tasks"][task] for task in TASKS} for name, entry in rates.items()},
    }


def _commit():
    """Of the checkout, or None where there is none."""
    line = ["git", "-C", str(ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(line, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
