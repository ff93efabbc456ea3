"""Cells of a table whose policy is let loose in a simulator: what is published, run and reported."""

import json

import pytest

from farsighted_jax.bench import columns, compare
from farsighted_jax.cli import bench, publish, rollout

FILE = "configs/compare_closed_loop.py"


@pytest.fixture
def calls(monkeypatch):
    """Stands in for publishing and the simulator, which have tests of their own."""
    found = []

    def published(folder, out):
        found.append(("publish", folder, out))
        out.mkdir()

    def run(line):
        found.append(line)
        out = line[line.index("--out") + 1]
        bench.Path(out).mkdir(exist_ok=True)
        (bench.Path(out) / "results.json").write_text(json.dumps({"policy": {"success": 0.5}}))

    monkeypatch.setattr(publish, "publish", published)
    monkeypatch.setattr(rollout, "main", run)
    return found


def test_a_run_is_published_once_and_rolled_out_with_the_options_of_its_configuration(tmp_path, calls):
    options = ["--tasks", "reach", "--controllers", "policy"]
    assert bench.closed_loop(tmp_path, options) == {"policy": {"success": 0.5}}
    assert bench.closed_loop(tmp_path, options) == {"policy": {"success": 0.5}}
    release, out = tmp_path / "release", tmp_path / "closed_loop"
    line = ["run", "--policy", str(release), *options, "--out", str(out)]
    assert calls == [("publish", tmp_path, release), line, line]


def test_the_comparison_reads_what_the_simulator_reports():
    comparison = compare.read(FILE)
    options = comparison.variants["full"].eval.rollout
    tasks = options[options.index("--tasks") + 1 : options.index("--episodes")]
    rate = {"success": 0.5, "tasks": {task: {"success": 0.25} for task in tasks}}
    found = {name: columns.value({"closed_loop": {"policy": rate}}, comparison.columns[name])
             for name in ("success", *(task.replace("-", "_") for task in tasks))}  # fmt: skip
    assert found == {"success": 0.5} | {task.replace("-", "_"): 0.25 for task in tasks}
    assert comparison.claim({"full": {"success": 0.5}, "no_lam": {"success": 0.4}})
    assert not comparison.claim({"full": {"success": 0.5}, "no_lam": {"success": 0.5}})


def test_only_the_cells_act_and_only_demonstrations_have_actions():
    from farsighted_jax.bench import stages

    comparison = compare.read(FILE)
    for name, config in comparison.variants.items():
        cell, runs = stages.planned(config, comparison.stages, bench.Path("stages"))
        own = "metaworld_few" if name == "no_lam" else "metaworld_few:0.5,metaworld_video:0.5"
        assert cell.eval.rollout and cell.data.mixture == own, name
        for stage in runs.values():
            assert not stage.eval.get("rollout"), name
            trained = "metaworld_few" if name == "no_lam" else "metaworld_video"
            assert stage.data.mixture == trained, name
