import collections

import jax.numpy as jnp
import pytest
from checkpoint_items import items_of

from farsighted_jax.checkpoint import manager, manifest
from farsighted_jax.checkpoint.manager import CheckpointStore, CheckpointWriteError


def _store(folder, report=lambda text: None, **settings):
    return CheckpointStore(folder, **{"keep_last": 2, "keep_every": 0, "report": report} | settings)


def _names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


@pytest.mark.parametrize("async_save", [True, False])
def test_exact_set_of_steps_on_disk(tmp_path, async_save):
    store = _store(tmp_path, keep_every=4, async_save=async_save)
    for step in range(1, 8):
        store.save(step, items_of(step), {})
    store.close()
    assert _names(tmp_path) == ["4", "6", "7"]


def test_retention_of_fifty():
    steps = []
    for step in range(1, 51):
        steps = sorted(manager.retained([*steps, step], keep_last=3, keep_every=20))
    assert steps == [20, 40, 48, 49, 50]


def test_leftovers_go_and_complete_steps_stay(run_folder):
    folder, _ = run_folder([1, 2])
    (folder / "checkpoints" / "2" / manifest.NAME).unlink()
    (folder / "checkpoints" / "3.orbax-checkpoint-tmp").mkdir()
    (folder / "checkpoints" / "deleting-1").mkdir()
    (folder / "checkpoints" / "stray").write_text("x")
    _store(folder).close()
    assert _names(folder) == ["1"]


def test_failed_background_save_surfaces_and_the_next_save_works(tmp_path, monkeypatch):
    lines = []
    store = _store(tmp_path, report=lines.append)
    store.save(1, items_of(1), {})
    store.wait()

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "write", full)
        store.save(2, items_of(2), {})
        with pytest.raises(CheckpointWriteError, match=r"checkpoints/2: .*\d+ bytes needed.*No space left"):
            store.wait()
    assert _names(tmp_path) == ["1"]
    store.check()
    store.save(3, items_of(3), {})
    store.close()
    assert _names(tmp_path) == ["1", "3"] and len(lines) == 2


def test_full_disk_is_seen_before_writing(tmp_path, monkeypatch):
    store = _store(tmp_path)
    usage = collections.namedtuple("usage", "total used free")
    monkeypatch.setattr(manager.shutil, "disk_usage", lambda path: usage(100, 90, 10))
    with pytest.raises(CheckpointWriteError, match="No space left: 244 bytes needed, 10 free"):
        store.save(1, items_of(1), {})
    assert _names(tmp_path) == []
    store.close()


def test_frozen_parameters_are_written_once(tmp_path):
    store = _store(tmp_path)
    frozen = {"backbone": {"kernel": jnp.ones((3, 2), jnp.bfloat16)}}
    assert store.save_frozen({}) == "" and not (tmp_path / "frozen").exists()
    digest = store.save_frozen(frozen)
    written = (tmp_path / "frozen" / manifest.NAME).stat().st_mtime_ns
    assert store.save_frozen(frozen) == digest
    assert (tmp_path / "frozen" / manifest.NAME).stat().st_mtime_ns == written
    assert store.save_frozen({"backbone": {"kernel": frozen["backbone"]["kernel"] * 2}}) != digest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoints", "frozen"]
    store.close()


@pytest.mark.parametrize("settings", [{"keep_last": 0}, {"keep_every": -1}])
def test_retention_out_of_range(tmp_path, settings):
    with pytest.raises(ValueError, match="keep_last"):
        _store(tmp_path, **settings)
