import json
import os
import signal

import jax
import numpy as np
import pytest
import toy_task

from farsighted_jax.checkpoint import digest, manifest, restore
from farsighted_jax.core.config import ConfigError
from farsighted_jax.sharding.mesh import MeshError, make_mesh
from farsighted_jax.train import guard, loop, resume
from farsighted_jax.train import metrics as metrics_module

TIMED = (
    "train/samples_per_s",
    "train/input_stall_share",
    "train/goodput",
    "memory/rss_mb",
    "memory/device_peak_mb",
)


def run(
    folder, stream=None, *, devices=1, task=None, sizes=None, on_log=(), init="", profile=range(0), **changes
):
    mesh = make_mesh(sizes or {"data": -1, "fsdp": 1, "tensor": 1}, jax.devices()[:devices])
    config = toy_task.toy_config(**changes)
    stream = stream or toy_task.ToyStream(config.batch_size)
    task = task or toy_task.ToyTask()
    return loop.train(task, stream, config, folder, mesh=mesh, on_log=on_log, init=init, profile=profile)


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def untimed(folder):
    return [{k: v for k, v in line.items() if k not in TIMED} for line in lines(folder)]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Twenty steps without a stop, saved at 10 and 20."""
    folder = tmp_path_factory.mktemp("straight")
    return folder, run(folder, checkpoint__every=10)


def test_loss_falls_and_every_step_has_its_line(straight):
    folder, result = straight
    found = lines(folder)
    assert [line["step"] for line in found] == list(range(1, 21)) and result.step == 20
    losses = [line["train/loss"] for line in found]
    assert np.mean(losses[-4:]) < 0.8 * np.mean(losses[:4])
    assert {"train/error", "train/learning_rate", "data/ids_digest", *TIMED[:4]} <= set(found[0])
    assert found[-1]["state_digest"] == result.state_digest
    assert json.loads((folder / "config.json").read_text())["total_steps"] == 20
    assert json.loads((folder / "statistics.json").read_text()) == toy_task.ToyStream.statistics


def test_ten_and_ten_equal_twenty_bit_for_bit(straight, tmp_path):
    stream = toy_task.ToyStream()
    first = run(tmp_path, stream, checkpoint__every=10, stop_step=10)
    assert first.step == 10 and (stream.opened, stream.closed) == (1, 1)
    second = run(tmp_path, checkpoint__every=10)
    assert second.state_digest == straight[1].state_digest
    assert untimed(tmp_path) == untimed(straight[0])
    assert run(tmp_path, checkpoint__every=10).step == 20
    assert untimed(tmp_path) == untimed(straight[0])


@pytest.mark.parametrize("number, status", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_saves_exits_and_resumes_to_the_same_end(straight, tmp_path, number, status):
    def interrupt(step, state, values):
        if step == 7:
            os.kill(os.getpid(), number)
            os.kill(os.getpid(), number)
        return {}

    with pytest.raises(guard.Interrupted) as stopped:
        run(tmp_path, on_log=[interrupt], checkpoint__every=10)
    assert stopped.value.code == status
    assert manifest.complete_steps(tmp_path / "checkpoints") == [8]
    assert run(tmp_path, checkpoint__every=10).state_digest == straight[1].state_digest


def test_log_every_keeps_the_first_and_the_last_step(tmp_path):
    run(tmp_path, log_every=4, stop_step=6)
    assert [line["step"] for line in lines(tmp_path)] == [1, 4, 6]


def test_nothing_is_copied_from_the_device_between_logged_steps(tmp_path, monkeypatch):
    class Sealed:
        """Stands for a step's output; only the logging and saving calls may open it."""

        def __init__(self, value):
            self.value = value

        def _refuse(self, *arguments):
            raise AssertionError("a value was copied to the host outside a logged step")

        __array__ = __float__ = __int__ = __bool__ = item = tolist = _refuse

    compile_step, to_host, to_items = loop.compiled_step, metrics_module.to_host, loop.train_state.to_items
    opened = []

    def sealing(*arguments):
        step = compile_step(*arguments)

        def sealed_step(state, batch):
            state, metrics = step(getattr(state, "value", state), batch)
            return Sealed(state), jax.tree.map(Sealed, metrics)

        return sealed_step

    def opening(metrics):
        opened.append(len(opened))
        return to_host(jax.tree.map(lambda leaf: leaf.value, metrics))

    monkeypatch.setattr(loop, "compiled_step", sealing)
    monkeypatch.setattr(metrics_module, "to_host", opening)
    monkeypatch.setattr(loop.train_state, "to_items", lambda state: to_items(state.value))
    assert run(tmp_path, log_every=10).step == 20
    assert len(opened) == 3


@pytest.mark.parametrize("accumulation", [1, 2])
def test_the_step_is_traced_once(tmp_path, monkeypatch, accumulation):
    make, traces = loop.make_train_step, []

    def counting(*arguments, **settings):
        step = make(*arguments, **settings)
        return lambda state, batch: (traces.append(1), step(state, batch))[1]

    monkeypatch.setattr(loop, "make_train_step", counting)
    run(tmp_path, optimizer__accumulation=accumulation, stop_step=6)
    assert len(traces) == 1


def test_the_step_is_compiled_once_and_nothing_while_it_runs(tmp_path, caplog):
    counts = []

    def compiled():
        return [record.getMessage() for record in caplog.records if "Compiling" in record.getMessage()]

    with jax.log_compiles():
        note = lambda step, state, values: counts.append(len(compiled())) or {}  # noqa: E731
        run(tmp_path, on_log=[note], log_every=2, checkpoint__every=2, stop_step=10)
    assert sum("train_step" in message for message in compiled()) == 1
    # The first save and the first logged step are over at step 4.
    assert len(counts) == 6 and counts[2:] == counts[2:3] * 4


def test_chosen_steps_are_traced_and_the_time_is_accounted_for(tmp_path):
    run(tmp_path, stop_step=6, profile=range(3, 5))
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    ledger = json.loads((tmp_path / "goodput.json").read_text())
    (session,) = ledger["sessions"]
    assert (session["first_step"], session["last_step"]) == (0, 6)
    assert all(session["seconds"][kind] > 0 for kind in ("start", "compile", "steps", "data", "checkpoint"))
    assert 0 < lines(tmp_path)[-1]["train/goodput"] < 1


def test_divergence_stops_with_the_last_good_state(tmp_path):
    bad = toy_task.ToyStream(bad_steps=(12, 13, 14, 15, 16, 17, 18, 19))
    ids = bad.ids_digest(bad.batch(12))
    with pytest.raises(guard.TrainingDivergedError, match=f"3 steps in a row.*after step 12.*{ids}"):
        run(tmp_path, bad, checkpoint__every=4)
    assert manifest.complete_steps(tmp_path / "checkpoints") == [8, 12]


def test_single_bad_steps_are_counted_and_survived(tmp_path):
    result = run(tmp_path, toy_task.ToyStream(bad_steps=(3, 7)), stop_step=10)
    assert lines(tmp_path)[-1]["train/skipped_steps"] == 2 and lines(tmp_path)[3]["train/loss"] is None
    assert result.step == 10 and all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(result.state.params))


def test_changed_configuration_is_refused_by_key_unless_harmless(straight, tmp_path, capsys):
    run(tmp_path, stop_step=2)
    with pytest.raises(resume.ResumeError) as error:
        run(tmp_path, seed=1, optimizer__b1=0.5, log_every=2)
    assert "seed: 0 -> 1" in str(error.value) and "optimizer.b1: 0.9 -> 0.5" in str(error.value)
    assert "log_every" not in str(error.value)
    run(tmp_path, stop_step=3, data__dir="elsewhere")
    assert "changed keys: data.dir: '' -> 'elsewhere'; stop_step: 2 -> 3" in capsys.readouterr().out


def test_changed_data_are_refused(tmp_path):
    run(tmp_path, stop_step=2)
    changed = toy_task.ToyStream(fingerprint="toy-2")
    changed.statistics = {"toy": {"mean": [0.0, 2.0], "count": 3}}
    with pytest.raises(resume.ResumeError) as error:
        run(tmp_path, changed)
    assert "fingerprint.toy: 'toy-1' -> 'toy-2'" in str(error.value)
    assert "statistics.toy.mean: [0.0, 1.0] -> [0.0, 2.0]" in str(error.value)


def test_corrupt_newest_step_falls_back_and_ends_the_same(straight, tmp_path, capsys):
    run(tmp_path, checkpoint__every=5, stop_step=10)
    victim = next((tmp_path / "checkpoints" / "10" / "params").rglob("ocdbt.process_0/d/*"))
    raw = bytearray(victim.read_bytes())
    raw[len(raw) // 2] ^= 4
    victim.write_bytes(raw)
    result = run(tmp_path, checkpoint__every=10)
    printed = capsys.readouterr().out
    assert str(victim) in printed and "step 10 is corrupt" in printed and "resumed from step 5" in printed
    assert result.state_digest == straight[1].state_digest
    # Step 5 saved no digest into its line in the other run, and vice versa.
    strip = [{k: v for k, v in line.items() if k != "state_digest"} for line in untimed(tmp_path)]
    assert strip == [{k: v for k, v in line.items() if k != "state_digest"} for line in untimed(straight[0])]


def test_warm_start_takes_weights_and_only_where_there_is_nothing_to_resume(straight, tmp_path):
    source = restore.read_weights(straight[0])[1]
    frozen = run(tmp_path, init=str(straight[0]), optimizer__freeze=("^encoder/",), stop_step=1)
    same = digest.content_digests(frozen.state.frozen)
    assert same == digest.content_digests({"encoder": source["params"]["encoder"]})
    assert frozen.step == 1 and int(frozen.state.opt_state[1].count) == 1
    again = run(tmp_path, init="nowhere", optimizer__freeze=("^encoder/",), stop_step=2)
    assert again.step == 2 and digest.content_digests(again.state.frozen) == same


def test_warm_start_from_another_model_lists_the_paths(straight, tmp_path):
    class Wider(toy_task.ToyTask):
        def init(self, key, batch):
            params, model_state = super().init(key, batch)
            return {**params, "extra": {"bias": model_state["mean"]}}, model_state

    with pytest.raises(restore.StructureError, match=r"extra/bias: expected float32\[8\], found nothing"):
        run(tmp_path, task=Wider(), init=str(straight[0]))


def test_resumed_on_other_devices_batches_are_the_same_and_losses_close(straight, tmp_path):
    run(tmp_path, checkpoint__every=10, stop_step=10, optimizer__ema_decay=0.0)
    result = run(tmp_path, devices=8, sizes={"data": 2, "fsdp": 2, "tensor": 2}, checkpoint__every=10)
    assert result.step == 20
    for here, there in zip(lines(tmp_path), lines(straight[0]), strict=True):
        assert here["data/ids_digest"] == there["data/ids_digest"]
        assert here["train/loss"] == pytest.approx(there["train/loss"], rel=1e-6)


def test_bad_requests_are_refused_before_work(tmp_path):
    with pytest.raises(MeshError, match="batch size 12 is not divisible by 8"):
        run(tmp_path / "a", devices=8, batch_size=12)
    with pytest.raises(ConfigError, match="'log_every'"):
        run(tmp_path / "b", log_every=0)
    (tmp_path / "file").write_text("")
    with pytest.raises(guard.WorkdirError):
        run(tmp_path / "file")
    with pytest.raises(MeshError, match="16 rows .* expected batch size 8"):
        run(tmp_path / "c", toy_task.ToyStream(16), batch_size=8)
    lock = guard.RunLock(tmp_path)
    with pytest.raises(guard.RunLockError, match="used by another run"):
        run(tmp_path)
    lock.release()
    assert not (tmp_path / "config.json").exists()
