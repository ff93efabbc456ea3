"""Damage to checkpoints on disk, and death of the process that writes them."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest
import toy_task
from checkpoint_items import abstract_of, items_of, saved_run

from farsighted_jax.checkpoint import digest, manifest, restore
from farsighted_jax.checkpoint.manager import CheckpointStore, CheckpointWriteError, state_digest

FROZEN = {"backbone": {"kernel": jax.numpy.ones((3, 2), jax.numpy.bfloat16)}}


def _flip(path, generator):
    raw = bytearray(path.read_bytes())
    bit = generator.randrange(len(raw) * 8)
    raw[bit // 8] ^= 1 << (bit % 8)
    path.write_bytes(raw)


def _truncate(path, generator):
    path.write_bytes(path.read_bytes()[: generator.randrange(path.stat().st_size)])


def _empty(path, generator):
    path.write_bytes(b"")


def _delete(path, generator):
    path.unlink()


def _damage_and_check(folder, digests, path, inject, generator):
    """Damages one file of step 2; restore must name it and fall back to step 1. Puts the file back."""
    original, lines = path.read_bytes(), []
    inject(path, generator)
    step, items, _ = restore.restore_newest(folder, abstract_of(items_of(1)), lines.append)
    items = {name: item for name, item in items.items() if name != "frozen"}
    assert step == 1
    assert state_digest({name: digest.content_digests(item) for name, item in items.items()}) == digests[1]
    # A step that lost its manifest is not listed at all.
    assert str(path) in "".join(lines) or (path.name == manifest.NAME and not path.exists())
    path.write_bytes(original)


def _files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_a_flipped_bit_in_any_file_of_a_step_is_named_and_falls_back(tmp_path):
    digests = saved_run(tmp_path, [1, 2])
    files = [path for path in _files(tmp_path / "checkpoints" / "2") if path.stat().st_size]
    assert len(files) > 30
    generator = random.Random(0)
    for path in files:
        _damage_and_check(tmp_path, digests, path, _flip, generator)
    assert restore.restore_newest(tmp_path, abstract_of(items_of(1)))[0] == 2


@pytest.mark.parametrize("inject", [_truncate, _empty, _delete])
def test_any_file_cut_short_emptied_or_deleted_is_named(tmp_path, inject):
    saved_run(tmp_path, [2])
    generator = random.Random(4)
    for path in [path for path in _files(tmp_path / "checkpoints" / "2") if path.stat().st_size]:
        original = path.read_bytes()
        inject(path, generator)
        if path.exists() or path.name != manifest.NAME:
            with pytest.raises(manifest.CorruptCheckpointError, match=re.escape(str(path))):
                restore.restore_newest(tmp_path, abstract_of(items_of(2)), lambda text: None)
        else:
            assert restore.restore_newest(tmp_path, abstract_of(items_of(2))) is None
        path.write_bytes(original)


def test_damage_to_frozen_parameters_is_named(tmp_path):
    saved_run(tmp_path, [1], FROZEN)
    expected, generator = abstract_of(items_of(1) | {"frozen": FROZEN}), random.Random(1)
    for path in _files(tmp_path / "frozen"):
        original = path.read_bytes()
        _flip(path, generator)
        with pytest.raises(manifest.CorruptCheckpointError, match=re.escape(str(path))):
            restore.restore_newest(tmp_path, expected)
        path.write_bytes(original)
    assert restore.restore_newest(tmp_path, expected)[0] == 1


def test_no_intact_step_is_an_error_not_a_fresh_start(tmp_path):
    saved_run(tmp_path, [1, 2])
    for step in ("1", "2"):
        _flip(next((tmp_path / "checkpoints" / step / "params").rglob("_METADATA")), random.Random(2))
    with pytest.raises(
        manifest.CorruptCheckpointError, match="(?s)no intact step is left.*2/params/_METADATA"
    ):
        restore.restore_newest(tmp_path, abstract_of(items_of(1)), lambda text: None)


@pytest.fixture
def small_disk(tmp_path):
    """A mounted file system of 2 MB, where that is allowed."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True, check=False
    )
    if mount.returncode:
        pytest.skip("mounting a small file system is not allowed here")
    yield disk
    subprocess.run(["umount", disk], check=True)


# Orbax leaves a task of its own behind when a write fails.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_full_disk_during_a_save(small_disk):
    """The arrays fit by a hair, what is written beside them does not."""
    store = CheckpointStore(small_disk, keep_last=5, keep_every=0, report=lambda text: None)
    store.save(1, items_of(1), {})
    store.wait()
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * (os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_frsize - 3 * 4096))
    with pytest.raises(
        CheckpointWriteError, match=r"checkpoints/2: .* 244 bytes needed.*(?s:.*)[Nn]o space left"
    ):
        store.save(2, items_of(2), {})
        store.wait()
    assert [path.name for path in (small_disk / "checkpoints").iterdir()] == ["1"]
    filler.unlink()
    store.save(3, items_of(3), {})
    store.close()
    assert restore.restore_newest(small_disk, abstract_of(items_of(3)))[0] == 3


def _train(folder, *assignments):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, toy_task.__file__, str(folder), *assignments]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _stored_digest(step_folder):
    """State digest of what restore gives, computed anew."""
    body = manifest.read(step_folder)
    expected = {
        name: jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=_SHARDING),
            restore._structure(step_folder, body, name),
        )
        for name in body["digests"]
    }
    items = restore.restore_items(step_folder, expected, body)
    return state_digest({name: digest.content_digests(item) for name, item in items.items()})


_SHARDING = jax.sharding.SingleDeviceSharding(jax.devices()[0])


def _killed_while_saving(folder, count, generator):
    """Kills a run that saves every step, `count` times; checks every step on disk after each."""
    logged, newest = {}, 0
    settings = ("checkpoint.every=1", "checkpoint.keep_last=3", "total_steps=100000", "log_every=1000")
    for _ in range(count):
        process = _train(folder, *settings)
        for line in process.stdout:
            if line.startswith("saved step"):
                break
        time.sleep(generator.uniform(0.0, 0.6))
        process.send_signal(signal.SIGKILL)
        rest, errors = process.communicate()
        for step, value in re.findall(r"saved step (\d+) .* state digest (\w+)", line + rest):
            logged[int(step)] = value
        steps = manifest.complete_steps(folder / "checkpoints")
        assert steps and steps[-1] >= newest, errors
        newest = steps[-1]
        assert newest >= max(logged)
        for step in steps:
            found = _stored_digest(folder / "checkpoints" / str(step))
            assert found == logged.get(step, found)
    return newest


def _check_kills(folder, count, seed):
    newest = _killed_while_saving(folder, count, random.Random(seed))
    (folder / "checkpoints" / f"{newest + 1}.orbax-checkpoint-tmp").mkdir(exist_ok=True)
    process = _train(folder, "total_steps=100000", f"stop_step={newest + 1}", "checkpoint.keep_last=3")
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    assert f"resumed from step {newest}" in output
    names = {path.name for path in (folder / "checkpoints").iterdir()}
    assert (
        names == {str(step) for step in manifest.complete_steps(folder / "checkpoints")} and len(names) == 3
    )
    # Killed or not, the same steps give the same state.
    straight = _train(folder.with_name("straight"), "total_steps=100000", f"stop_step={newest + 1}")
    expected = straight.communicate()[0]
    assert re.findall("state digest (.*)", expected)[-1] == re.findall("state digest (.*)", output)[-1]
    steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert steps == sorted(set(steps)), "a step was logged twice"


@pytest.mark.slow
def test_killed_while_saving(tmp_path):
    _check_kills(tmp_path / "run", 5, seed=0)


@pytest.mark.drill
def test_killed_while_saving_a_hundred_times(tmp_path):
    _check_kills(tmp_path / "run", 100, seed=1)


@pytest.mark.drill
def test_two_hundred_flipped_bits(tmp_path):
    digests = saved_run(tmp_path, [1, 2])
    generator = random.Random(3)
    files = _files(tmp_path / "checkpoints" / "2")
    for _ in range(200):
        _damage_and_check(tmp_path, digests, generator.choice(files), _flip, generator)


@pytest.mark.slow
def test_signal_to_the_process_saves_and_exits_with_143(tmp_path):
    process = _train(tmp_path / "run", "total_steps=100000", "checkpoint.every=100000", "log_every=100000")
    for line in process.stdout:
        if line.startswith("step 1/"):
            break
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 143, errors
    (step,) = manifest.complete_steps(tmp_path / "run" / "checkpoints")
    assert f"saved step {step}" in output
    assert Path(tmp_path / "run" / "config.json").exists()
