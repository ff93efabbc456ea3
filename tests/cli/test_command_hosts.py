"""Several processes of one command: its flags, clusters, and the same results as one process."""

import argparse
import json

import numpy as np
import pytest
import tiny_command
import toy_hosts
from source_tree import ROOT
from tiny_policy_run import write_policy_run
from tool_cases import VARIANT, tool_config, write_lam_run

from data_pipelines.code_dataset import CodeReader
from data_pipelines.stream import open_stream
from farsighted_jax.cli import evaluate, hosts
from farsighted_jax.lam.model import VARIANTS

SLURM = {"SLURM_JOB_ID": "1", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}


@pytest.mark.parametrize(
    "environment, expected",
    [
        ({}, False),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "4"}, True),
        # A shell inside an allocation, and a step of one task, are one process.
        (SLURM, False),
        ({**SLURM, "SLURM_STEP_NUM_TASKS": "1"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a,b", "TPU_WORKER_ID": "1"}, True),
        ({"TPU_WORKER_HOSTNAMES": "localhost", "TPU_WORKER_ID": "0"}, False),
        ({"TPU_WORKER_HOSTNAMES": "a", "MEGASCALE_NUM_SLICES": "2"}, True),
        ({"TPU_PROCESS_ADDRESSES": "a:1,b:1"}, True),
    ],
)
def test_a_cluster_is_known_by_its_environment(environment, expected):
    assert hosts.in_cluster(environment) is expected


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--coordinator", "here"], "'here', expected HOST:PORT or auto"),
        (["--coordinator", "here:1"], "needs --num-processes and --process-id"),
        (["--num-processes", "2"], "go with --coordinator"),
        (["--coordinator", "auto", "--process-id", "0"], "go with --coordinator HOST:PORT"),
        (["--coordinator", "h:1", "--num-processes", "2", "--process-id", "2"], "2, expected 0 to 1"),
    ],
)
def test_flags_that_do_not_fit_end_with_status_2(flags, message, capsys):
    with pytest.raises(SystemExit) as ended, session(flags):
        pass
    assert ended.value.code == 2 and message in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--coordinator", "h:1", "--num_processes", "1", "--process_id", "0"]])
def test_one_process_starts_nothing(flags, monkeypatch):
    monkeypatch.setattr("jax.distributed.initialize", lambda **given: pytest.fail("started"))
    for name in ("SLURM_STEP_NUM_TASKS", "TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"):
        monkeypatch.delenv(name, raising=False)
    with session(flags):
        pass


def session(argv):
    parser = argparse.ArgumentParser()
    hosts.add_flags(parser)
    return hosts.session(parser, parser.parse_args(argv))


@pytest.fixture
def lam_run(tool_data, tmp_path, monkeypatch):
    monkeypatch.setitem(VARIANTS, "tiny", VARIANT)
    config = tool_config(tool_data)
    statistics = open_stream(config.data, batch_size=4, seed=0).statistics
    return write_lam_run(tmp_path / "run", config, statistics)


def by_processes(num, *arguments, command=(tiny_command.__file__,)):
    """Runs the command in so many processes, all of which must end well."""
    found = toy_hosts.ended(toy_hosts.started(num, *command, *arguments), timeout=900)
    assert [each.status for each in found] == [0] * num, "\n".join(each.output for each in found)
    return [each.output for each in found]


def assert_close(found, expected, place=""):
    assert type(found) is type(expected), place
    if isinstance(found, dict):
        assert found.keys() == expected.keys(), place
        for key in found:
            assert_close(found[key], expected[key], f"{place}/{key}")
    elif isinstance(found, list):
        assert len(found) == len(expected), place
        for index, pair in enumerate(zip(found, expected, strict=True)):
            assert_close(*pair, f"{place}/{index}")
    else:
        # A probe that is fitted on a handful of samples makes much of the last bits.
        near = {"rel": 0.05 if "r2" in place else 1e-4, "abs": 1e-5}
        assert found == (pytest.approx(expected, **near) if isinstance(found, float) else expected), place


@pytest.mark.slow
def test_labels_of_two_processes_are_those_of_one(lam_run, tmp_path):
    options = ("--checkpoint", lam_run, "--shards", 3)
    by_processes(1, "label", *options, "--out", tmp_path / "one")
    outputs = by_processes(2, "label", *options, "--out", tmp_path / "two")
    assert "shard 0" in outputs[0] and "shard 2" in outputs[0] and "shard 1" in outputs[1]
    assert all("complete" in output for output in outputs)
    one, two = (CodeReader(tmp_path / name, "tiny", "train") for name in ("one", "two"))
    assert one.labels == two.labels and one.num_episodes == two.num_episodes == 4
    for number in range(4):
        np.testing.assert_array_equal(one.episode(number).code_LtZ, two.episode(number).code_LtZ)
        np.testing.assert_array_equal(one.episode(number).valid_Lt, two.episode(number).valid_Lt)


@pytest.mark.slow
def test_evaluation_of_a_latent_action_model_by_two_processes_is_that_of_one(lam_run):
    expected = json.loads(json.dumps(evaluate.evaluate_run(lam_run)))
    figures = {path.name for path in (lam_run / "figures").iterdir()}
    for path in (lam_run / "figures").iterdir():
        path.unlink()
    outputs = by_processes(2, "evaluate", "--checkpoint", lam_run)
    assert "metrics:" in outputs[0] and "metrics:" not in outputs[1]
    assert_close(json.loads((lam_run / "eval.json").read_text()), expected)
    assert {path.name for path in (lam_run / "figures").iterdir()} == figures


@pytest.mark.slow
def test_evaluation_of_a_policy_by_two_processes_is_that_of_one(tmp_path):
    def change(config):
        config.eval.batch_size = 2

    folder = write_policy_run(tmp_path, change)
    options = {"split": "train", "evaluators": ("mean", "action_error", "plan_accuracy", "imagined_frame")}
    expected = json.loads(json.dumps(evaluate.evaluate_run(folder, **options)))
    names = ",".join(options["evaluators"])
    arguments = ("evaluate", "--checkpoint", folder, "--split", "train", "--evaluators", names)
    by_processes(2, *arguments, command=("-m", "farsighted_jax.cli.main"))
    assert_close(json.loads((folder / "eval.json").read_text()), expected)


@pytest.mark.slow
def test_training_a_latent_action_model_by_two_processes_is_that_of_one(tool_data, tmp_path):
    changes = {
        "data.dir": tool_data, "data.mixture": "tiny", "data.resolution": 16, "data.offsets_s": (0.2, 0.6),
        "data.readers": 2, "batch_size": 4, "total_steps": 3, "log_every": 1, "gate.metric": "",
        "model.head": "pixels", "model.unroll": 1, "model.num_keypoints": 0,
    }  # fmt: skip
    options = [f"--config.{key}={value}" for key, value in changes.items()]
    found = {}
    for num in (1, 2):
        folder = tmp_path / str(num)
        config = ROOT / "configs" / "lam_pretrain.py"
        by_processes(num, "train", "--config", f"{config}:tiny", *options, "--workdir", folder)
        found[num] = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert (folder / "figures" / "curves.png").exists() and (folder / "goodput.json").exists()
    assert len(found[1]) == len(found[2]) == 3
    for one, two in zip(found[1], found[2], strict=True):
        assert one["data/ids_digest"] == two["data/ids_digest"]
        assert two["train/loss"] == pytest.approx(one["train/loss"], rel=1e-5)
