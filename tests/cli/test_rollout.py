"""`farsighted rollout` in the simulator itself, which runs in processes of its own."""

import argparse
import ctypes.util
import importlib.util
import json
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.oxe.registry import spec_for
from farsighted_jax.cli import rollout_run
from farsighted_jax.cli.main import main
from farsighted_jax.rollout import workers
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.fetch import INSTRUCTIONS
from farsighted_jax.rollout.metaworld import dataset_spec
from farsighted_jax.rollout.recording import Options
from farsighted_jax.rollout.success import summary

simulator = pytest.mark.skipif(
    importlib.util.find_spec("metaworld") is None or ctypes.util.find_library("OSMesa") is None,
    reason="needs the extra 'sim' and Debian's libosmesa6",
)

SETTINGS = {"resolution": 24, "cameras": ("primary", "wrist")}


def line(out, *more):
    return ["rollout", "record", "--tasks", "reach", "--episodes", "1", "--val", "1", "--workers", "1",
            "--resolution", "24", "--out", str(out), *more]  # fmt: skip


@simulator
def test_a_recording_is_written_once_and_only_once(tmp_path, capsys):
    assert main(line(tmp_path)) == 0
    folder = tmp_path / "metaworld_clean" / "1.0.0"
    recipe = json.loads((folder / "recording.json").read_text())
    assert recipe["settings"]["versions"]["metaworld"] == "3.1.1" and recipe["attempts"] == {"reach": 2}
    (episode,) = tfds.builder_from_directory(str(folder)).as_data_source("train")
    steps = list(episode["steps"])
    assert episode["episode_metadata"]["success"] and steps[0]["observation"]["state"].shape == (4,)
    depth = np.stack([step["observation"]["wrist_depth"] for step in steps])
    assert 0 < depth[depth > 0].min() and depth.max() <= 3000
    assert [path.name for path in tmp_path.iterdir() if path.name.endswith(".episodes")] == []
    before = (folder / "recording.json").stat().st_mtime_ns
    assert main(line(tmp_path)) == 0
    assert (folder / "recording.json").stat().st_mtime_ns == before
    assert main(line(tmp_path, "--val", "2")) == 1
    assert "episodes is {'train': 1, 'val': 1}, expected {'train': 1, 'val': 2}" in capsys.readouterr().err


@pytest.mark.skipif(
    importlib.util.find_spec("gymnasium_robotics") is None or ctypes.util.find_library("OSMesa") is None,
    reason="needs the extra 'sim' and Debian's libosmesa6",
)
def test_another_simulator_is_recorded_by_the_same_command(tmp_path):
    more = ["--env", "fetch", "--tasks", "push"]
    assert main(line(tmp_path, *more)) == 0
    folder = tmp_path / "fetch_clean" / "1.0.0"
    assert json.loads((folder / "recording.json").read_text())["attempts"] == {"push": 2}
    (episode,) = tfds.builder_from_directory(str(folder)).as_data_source("train")
    step = next(iter(episode["steps"]))
    assert step["observation"]["state"].shape == step["action"].shape == (4,)
    assert step["observation"]["secondary_image"].shape == (24, 24, 3)
    assert step["language_instruction"] in [said.encode() for said in INSTRUCTIONS["push"]]


@simulator
def test_the_same_seed_gives_the_same_pixels_whatever_came_before(tmp_path):
    def jobs(name, *tasks):
        return [workers.Job(task, "train", 7, tmp_path / f"{name}-{task}.npz") for task in tasks]

    options = Options(noise=0.3, num_steps=12, keep_failures=True)
    for name, tasks in (("alone", ("drawer-open",)), ("after", ("door-open", "drawer-open"))):
        facts = list(workers.recorded("metaworld", SETTINGS, options, jobs(name, *tasks), 1))
        assert [fact["steps"] for fact in facts] == [12] * len(tasks)
    alone, after = (np.load(tmp_path / f"{name}-drawer-open.npz") for name in ("alone", "after"))
    assert alone.files == after.files
    for key in alone.files:
        np.testing.assert_array_equal(alone[key], after[key], err_msg=key)
    frames = alone["rgb/primary"]
    assert frames.std() > 10 and not np.array_equal(frames[0], frames[-1])


@simulator
def test_an_interrupted_recording_goes_on_and_another_is_refused(tmp_path, capsys):
    parts = tmp_path / ".metaworld_clean.episodes"
    assert main(line(tmp_path, "--steps", "3", "--variant", "noisy", "--name", "metaworld_clean")) == 0
    recipe = json.loads((tmp_path / "metaworld_clean" / "1.0.0" / "recording.json").read_text())
    del recipe["attempts"]
    parts.mkdir()
    (parts / "recording.json").write_text(json.dumps(recipe))
    (tmp_path / "metaworld_clean" / "1.0.0" / "recording.json").unlink()
    assert main(line(tmp_path)) == 1
    assert "unfinished recording that differs: variant is noisy, expected clean" in capsys.readouterr().err


@simulator
def test_workers_end_with_the_command_that_is_killed(tmp_path):
    command = [sys.executable, "-m", "farsighted_jax.cli.main", *line(tmp_path, "--episodes", "50")]
    recording = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: list(tmp_path.glob(".*/*.npz")))
        children = Path(f"/proc/{recording.pid}/task/{recording.pid}/children").read_text().split()
    finally:
        recording.kill()
        recording.wait()
    until(lambda: not any(is_alive(pid) for pid in children))
    assert children


def until(done, timeout_s=60.0):
    end = time.monotonic() + timeout_s
    while not done():
        assert time.monotonic() < end, "in vain"
        time.sleep(0.05)


def is_alive(pid):
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def test_unknown_tasks_and_cameras_are_named(tmp_path, capsys):
    command = ["rollout", "record", "--out", str(tmp_path), "--tasks"]
    assert main([*command, "fly"]) == 1
    assert "metaworld has no task(s) ['fly']; it has assembly, " in capsys.readouterr().err
    assert main([*command, "reach", "--cameras", "ceiling"]) == 1
    assert "no camera(s) ['ceiling'], only ['primary', 'wrist']" in capsys.readouterr().err


def test_tensorflow_and_the_renderer_never_share_a_process(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    with pytest.raises(RolloutError, match="crash in one process"):
        workers.make_environment("metaworld", SETTINGS)


def test_an_unknown_environment_is_named():
    with pytest.raises(RolloutError, match="no environment 'moon', only metaworld"):
        workers.make_environment("moon", {})


class Reacher:
    """Stands in for a policy: goes up and forward, whatever it sees."""

    def __init__(self, horizon=4):
        self.spec, self.horizon, self.history_steps = dataset_spec("demonstrations"), horizon, (0,)
        self.cameras, self.depth_cameras, self.keys = ("primary",), ("primary",), ("rgb", "depth", "state")
        self.groups, self.keyframe_step = ("context", "vision", "action"), 3
        self.asked, self.executing = [], []

    def imagined(self, observations):
        return np.stack([observation["rgb"]["primary"][-1] / 255 for observation in observations])

    def __call__(self, observations, *, seed, executing=None):
        self.executing += executing or []
        self.asked.append((len(observations), seed))
        for observation in observations:
            assert observation["rgb"]["primary"].shape == (1, 24, 24, 3)
            assert observation["depth"]["primary"].dtype == np.uint16 and set(observation) == set(self.keys)
        return np.tile(np.float32([0, 0.5, 0.5, 0]), (len(observations), self.horizon, 1))


def run_flags(out, *more):
    parser = argparse.ArgumentParser()
    rollout_run.add_arguments(parser)
    shared = {"env": "metaworld", "tasks": ["reach", "drawer-open"], "resolution": 24, "workers": 2}
    line = ["--policy", "P", "--out", str(out), "--max-steps", "60", *more]
    return parser.parse_args(line, argparse.Namespace(**shared))


@simulator
def test_a_policy_is_run_beside_the_expert_and_chance_and_a_run_goes_on(tmp_path, capsys):
    policy = Reacher()
    results = rollout_run.run(run_flags(tmp_path, "--episodes", "1", "--films", "1"), policy, "d1")
    assert results == json.loads((tmp_path / "results.json").read_text())
    assert results["expert"]["tasks"]["reach"]["success"] == 1 and results["random"]["episodes"] == 2
    assert {size for size, _ in policy.asked} == {2}, "one batch size, so one compilation"
    seeds = [seed for _, seeds in policy.asked for seed in set(seeds)]
    assert len(set(seeds)) == len(seeds) > 20, "each question of an episode has a seed of its own"
    films = sorted((tmp_path / "films").glob("*.mp4"))
    assert [film.name for film in films] == ["drawer-open-2000000.mp4", "reach-2000000.mp4"]
    film = cv2.VideoCapture(str(films[0]))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 61
    assert (film.get(cv2.CAP_PROP_FRAME_WIDTH), film.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (48, 24)
    assert policy.executing == []
    lines = (tmp_path / "episodes.jsonl").read_text()
    assert lines.count("\n") == 6 and "2000000" in lines
    # Cut off in the middle of its last line: that episode alone is run again.
    (tmp_path / "episodes.jsonl").write_text(lines[:-9])
    rollout_run.run(run_flags(tmp_path, "--episodes", "1", "--films", "1"), policy, "d1")
    assert "5 episodes are there already" in capsys.readouterr().out
    assert sorted((tmp_path / "episodes.jsonl").read_text().splitlines()) == sorted(lines.splitlines())
    with pytest.raises(RolloutError, match="episodes of another run: execute is 4, expected 2"):
        rollout_run.run(run_flags(tmp_path, "--execute", "2"), policy, "d1")
    with pytest.raises(RolloutError, match="zero_noise is False, expected True"):
        rollout_run.run(run_flags(tmp_path, "--zero-noise"), policy, "d1")
    with pytest.raises(RolloutError, match="release is d1, expected d2"):
        rollout_run.run(run_flags(tmp_path), policy, "d2")


def test_what_is_printed_has_the_groups_and_their_mean_where_there_are_several():
    groups = {"a": "easy", "b": "easy", "c": "hard"}
    episodes = [{"task": task, "success": task != "b", "steps": 5} for task in groups]
    several, one = (
        rollout_run._table({"policy": summary([e for e in episodes if e["task"] in tasks], groups)})
        for tasks in ("abc", "ab")
    )
    assert [line.strip().partition(" (")[0] for line in several] == [
        *("a: policy 100%", "b: policy 0%", "c: policy 100%", "easy: policy 50%", "hard: policy 100%"),
        *("mean of the groups: policy 75%", "all: policy 67%"),
    ]
    assert [line.strip().partition(":")[0] for line in one] == ["a", "b", "all"]


@simulator
def test_a_policy_in_real_time_is_told_what_is_executed_and_perturbations_are_named(tmp_path):
    policy = Reacher()
    more = "--episodes 1 --max-steps 6 --execute 2 --latency 1 --real-time --perturb light camera".split()
    more += ["--controllers", "policy"]
    results = rollout_run.run(run_flags(tmp_path, *more), policy, "d1")
    assert (results["latency"], results["real_time"], results["execute"]) == (1, True, 2)
    # The two environments are asked in one batch, in step with each other.
    first, *others = policy.executing[::2]
    assert first is None and len(others) == 2
    for action_JM, num_committed in others:
        np.testing.assert_array_equal(action_JM, np.float32([[0, 0.5, 0.5, 0]] * 2))
        assert num_committed == 1
    assert results["settings"]["perturbations"] == ["camera", "light"]
    lines = [json.loads(line) for line in (tmp_path / "episodes.jsonl").read_text().splitlines()]
    assert {tuple(line["perturbations"]) for line in lines} == {("camera", "light")}
    assert {line["controller"] for line in lines} == {"policy"} and "expert" not in results
    with pytest.raises(RolloutError, match=r"no perturbation.s. \['fog'\], only \['camera', 'light', 'tex"):
        rollout_run.run(run_flags(tmp_path, "--perturb", "fog"), policy, "d1")


def test_a_policy_for_another_robot_and_a_short_chunk_are_named(tmp_path):
    policy = Reacher()
    with pytest.raises(RolloutError, match="chunks of 4 actions, expected at least execute = 5"):
        rollout_run.run(run_flags(tmp_path, "--execute", "5"), policy, "d1")
    policy.spec = spec_for("bridge_dataset")
    with pytest.raises(RolloutError, match="acts for 'bridge_dataset'.* at 5.0 Hz, metaworld expects"):
        rollout_run.run(run_flags(tmp_path), policy, "d1")


def test_what_is_not_installed_is_told_before_any_process_starts(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(workers.ctypes.util, "find_library", lambda name: None)
    assert main(line(tmp_path)) == 1
    assert "sudo apt-get install libosmesa6" in capsys.readouterr().err
    monkeypatch.setattr(workers.importlib.util, "find_spec", lambda name: None)
    assert main(line(tmp_path)) == 1
    assert "needs 'metaworld'" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--episodes", "--workers", "--val"])
def test_numbers_below_one_are_mistakes_of_the_command_line(tmp_path, option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["rollout", "record", "--tasks", "reach", "--out", str(tmp_path), option, "0"])
    assert stopped.value.code == 2 and f"{option} is 0, expected at least 1" in capsys.readouterr().err
