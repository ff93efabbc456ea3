"""Several real processes that train together: the numbers of one process, and none left behind."""

import json
import re
import shutil
import signal
import time

import jax
import pytest
import toy_hosts
import toy_task

from farsighted_jax.checkpoint import manifest
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.train import loop


def alone(folder, devices=1, **changes):
    """The same run in this process."""
    mesh = make_mesh({"data": -1, "fsdp": 1, "tensor": 1}, jax.devices()[:devices])
    config = toy_task.toy_config(**changes)
    return loop.train(toy_task.ToyTask(), toy_task.ToyStream(), config, folder, mesh=mesh)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def assert_same_run(folder, other, steps):
    found, expected = lines(folder), lines(other)
    assert [line["step"] for line in found] == list(range(1, steps + 1))
    for here, there in zip(found, expected[:steps], strict=True):
        assert here["data/ids_digest"] == there["data/ids_digest"]
        assert here["train/loss"] == pytest.approx(there["train/loss"], rel=1e-6)


def together(num, folder, *arguments, **options):
    """Trains in so many processes, all of which must end well."""
    found = toy_hosts.trained(num, folder, *arguments, **options)
    assert [each.status for each in found] == [0] * num, "\n".join(each.output for each in found)
    return [each.output for each in found]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Twenty steps in one process."""
    folder = tmp_path_factory.mktemp("straight")
    alone(folder)
    return folder


def test_two_processes_are_one_run_that_a_single_process_can_resume(straight, tmp_path):
    first, second = together(2, tmp_path, "stop_step=6", "checkpoint.every=5")
    assert_same_run(tmp_path, straight, 6)
    assert f"batch 5 rows {tuple(range(8))}" in first and f"batch 5 rows {tuple(range(8, 16))}" in second
    assert "step 6/" in first and "step 6/" not in second and "saved" not in second
    digest = re.search(r"saved step 6 .* state digest (\w+)", first)[1]
    assert lines(tmp_path)[-1]["state_digest"] == digest
    alone(tmp_path)
    assert_same_run(tmp_path, straight, 20)


@pytest.mark.slow
def test_what_four_wrote_one_two_and_four_resume(straight, tmp_path):
    options = ("mesh.data=2", "mesh.fsdp=2", "optimizer.ema_decay=0.9")
    output = together(4, tmp_path / "4", *options, "stop_step=10")[0]
    digest = re.search(r"saved step 10 .* state digest (\w+)", output)[1]
    for name in ("1", "2"):
        shutil.copytree(tmp_path / "4", tmp_path / name)
    for num, sizes in ((1, ("mesh.data=1",)), (2, ("mesh.data=1", "mesh.fsdp=2")), (4, options[:2])):
        output = together(num, tmp_path / str(num), *sizes, options[2])[0]
        assert f"resumed from step 10 in {tmp_path / str(num)}, state digest {digest}" in output
        assert_same_run(tmp_path / str(num), straight, 20)


@pytest.mark.slow
def test_processes_that_share_rows_read_the_same_ones(straight, tmp_path):
    outputs = together(4, tmp_path, "mesh.data=2", "mesh.tensor=2", "stop_step=4")
    rows = [re.search(r"batch 3 rows \((\d+),.* (\d+)\)", output).groups() for output in outputs]
    assert rows == [("0", "7"), ("0", "7"), ("8", "15"), ("8", "15")]
    assert_same_run(tmp_path, straight, 4)


@pytest.mark.slow
def test_frozen_parameters_a_warm_start_and_a_corrupt_step(straight, tmp_path):
    arguments = (f"init={straight}", "optimizer.freeze=('^encoder/',)", "checkpoint.every=2")
    together(2, tmp_path, *arguments, "stop_step=4", devices=2)
    frozen = manifest.read(tmp_path / "frozen")["digests"]["params"]
    assert frozen.keys() == {"encoder/kernel", "encoder/bias"}
    before = lines(tmp_path)
    victim = next((tmp_path / "checkpoints" / "4" / "params").rglob("d/*"))
    victim.write_bytes(b"x" + victim.read_bytes()[1:])
    first, second = together(2, tmp_path, *arguments, "stop_step=5", devices=2)
    assert "step 4 is corrupt" in first and "resumed from step 2" in first and "corrupt" not in second
    assert [line["train/loss"] for line in lines(tmp_path)[:4]] == [line["train/loss"] for line in before]


@pytest.mark.slow
def test_a_process_with_another_configuration_or_other_data_is_named(tmp_path):
    found = toy_hosts.trained(2, tmp_path, own=[(), ("optimizer.b1=0.5", "--fingerprint", "toy-2")])
    for each in found:
        assert each.status not in (0, None)
        assert "process 1: config.optimizer.b1: 0.9 -> 0.5" in each.output
        assert "process 1: data.fingerprint: 'toy-1' -> 'toy-2'" in each.output
    assert not (tmp_path / "checkpoints").exists() and not (tmp_path / "config.json").exists()


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_after_the_same_step(straight, tmp_path):
    processes = toy_hosts.started(2, toy_hosts.__file__, tmp_path, "--pause", "0.1", "total_steps=2000")
    wait_for(lambda: (tmp_path / "metrics.jsonl").is_file() and len(lines(tmp_path)) > 3, processes)
    processes[1].send_signal(signal.SIGTERM)
    found = toy_hosts.ended(processes)
    assert [each.status for each in found] == [143, 143], "\n".join(each.output for each in found)
    (step,) = manifest.complete_steps(tmp_path / "checkpoints")
    assert lines(tmp_path)[-1]["step"] == step and "state_digest" in lines(tmp_path)[-1]
    together(2, tmp_path, "total_steps=2000", f"stop_step={step + 1}")
    assert lines(tmp_path)[-1]["step"] == step + 1


@pytest.mark.slow
@pytest.mark.parametrize("failing", [0, 1])
def test_where_one_process_fails_all_end(tmp_path, failing):
    own = [("--fail", "5") if index == failing else () for index in range(2)]
    begin = time.monotonic()
    found = toy_hosts.trained(2, tmp_path, own=own)
    assert "OSError: no batch 5" in found[failing].output
    assert all(each.status != 0 for each in found), [each.status for each in found]
    assert time.monotonic() - begin < 120


@pytest.mark.slow
def test_a_process_without_the_run_folder_is_named(tmp_path):
    own = [(tmp_path / "here",), (tmp_path / "there",)]
    found = toy_hosts.ended(toy_hosts.started(2, toy_hosts.__file__, own=own))
    assert "process 1: WorkdirError" in found[0].output and "shared storage" in found[0].output
    assert "is not the one that process 0 holds" in found[1].output and all(each.status for each in found)


def wait_for(condition, processes, timeout=120):
    begin = time.monotonic()
    while not condition():
        assert time.monotonic() - begin < timeout and all(p.poll() is None for p in processes)
        time.sleep(0.2)
