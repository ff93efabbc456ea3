"""Record files: what is read is what was written, and the index knows when it is stale."""

import itertools
import os
import threading

import numpy as np
import pytest
import remote_folder
from rlds_writer import write_records

from data_pipelines import cache, record_index, records
from data_pipelines.errors import DatasetError, RecordError

PAYLOADS = [b"first", b"", b"x" * 1000, bytes(range(256))]


def opened(path, file_format="tfrecord", count=None):
    index = records.scan(str(path), file_format)
    return records.RecordFiles([str(path)], [index], [index.count if count is None else count], file_format)


@pytest.mark.parametrize("file_format", records.FORMATS)
def test_records_in_any_order(tmp_path, file_format):
    write_records(tmp_path / "shard", PAYLOADS, file_format)
    files = opened(tmp_path / "shard", file_format)
    assert len(files) == len(PAYLOADS)
    for number in (3, 0, 2, 1, 0):
        assert files.read(number) == PAYLOADS[number]
    with pytest.raises(IndexError, match="record 4 is not within"):
        files.read(4)


def test_index_of_a_hand_counted_file(tmp_path):
    write_records(tmp_path / "shard", PAYLOADS)
    index = records.scan(str(tmp_path / "shard"), "tfrecord")
    assert index.lengths.tolist() == [5, 0, 1000, 256]
    assert index.offsets.tolist() == [0, 21, 37, 1053]
    assert index.damage == ""


def test_known_checksum():
    # The CRC-32C check value of "123456789" is 0xe3069283.
    rotated = ((0xE3069283 >> 15) | (0xE3069283 << 17)) & 0xFFFFFFFF
    assert records.masked_crc32c(b"123456789") == (rotated + 0xA282EAD8) & 0xFFFFFFFF


def test_numbering_runs_through_files_with_empty_ones(tmp_path):
    parts = [PAYLOADS[:1], [], PAYLOADS[1:]]
    paths = [str(tmp_path / f"shard{i}") for i in range(3)]
    for path, part in zip(paths, parts, strict=True):
        write_records(path, part)
    indexes = [records.scan(path, "tfrecord") for path in paths]
    files = records.RecordFiles(paths, indexes, [1, 0, 3], "tfrecord")
    assert [files.read(i) for i in range(4)] == PAYLOADS
    assert files.place(1) == (paths[2], 0)


def test_damage_in_one_file_does_not_renumber_the_next(tmp_path):
    paths = [str(tmp_path / "a"), str(tmp_path / "b")]
    for path in paths:
        write_records(path, PAYLOADS)
    with open(paths[0], "r+b") as file:
        file.truncate(40)
    indexes = [records.scan(path, "tfrecord") for path in paths]
    files = records.RecordFiles(paths, indexes, [4, 4], "tfrecord")
    assert files.read(4) == PAYLOADS[0]
    with pytest.raises(RecordError, match="record 2: out of reach: truncated"):
        files.read(2)


@pytest.mark.parametrize("file_format", records.FORMATS)
def test_threads_read_the_right_records(tmp_path, file_format):
    payloads = [bytes([i]) * (i + 1) for i in range(40)]
    write_records(tmp_path / "shard", payloads, file_format)
    files = opened(tmp_path / "shard", file_format)
    wrong = []

    def read(seed):
        for number in np.random.default_rng(seed).integers(0, 40, 200):
            if files.read(int(number)) != payloads[number]:
                wrong.append(number)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors through /proc")
def test_open_files_are_bounded_and_closed(tmp_path):
    paths = [str(tmp_path / f"{i}") for i in range(90)]
    for path in paths:
        write_records(path, PAYLOADS[:1])
    indexes = [records.scan(path, "tfrecord") for path in paths]
    before = len(os.listdir("/proc/self/fd"))
    files = records.RecordFiles(paths, indexes, [1] * 90, "tfrecord")
    for number in itertools.chain(range(90), range(90)):
        files.read(number)
    assert before < len(os.listdir("/proc/self/fd")) <= before + 64
    del files
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.fixture
def remote(tmp_path):
    return remote_folder.register(tmp_path)


def test_remote_files_by_range(tmp_path, remote):
    write_records(tmp_path / "shard", PAYLOADS)
    indexes, stats = record_index.load_or_build(remote, "train", ["shard"], "tfrecord", tmp_path / "cache")
    assert stats[0][0] == os.path.getsize(tmp_path / "shard")
    files = records.RecordFiles([remote + "shard"], indexes, [4], "tfrecord")
    assert [files.read(i) for i in (2, 0, 3)] == [PAYLOADS[2], PAYLOADS[0], PAYLOADS[3]]
    assert [path.name for path in (tmp_path / "cache").rglob("*.npz")] == ["train-index.npz"]


def test_remote_array_record_is_refused(remote):
    assert "local files only" in records.scan(remote + "shard", "array_record").damage


def scans(monkeypatch):
    seen = []
    scan = records.scan
    monkeypatch.setattr(
        records, "scan", lambda path, form: seen.append(os.path.basename(path)) or scan(path, form)
    )
    return seen


def test_index_is_cached_and_only_changed_files_are_scanned_again(tmp_path, monkeypatch):
    names = ["a", "b"]
    for name in names:
        write_records(tmp_path / name, PAYLOADS)
    seen = scans(monkeypatch)
    first, _ = record_index.load_or_build(str(tmp_path), "train", names, "tfrecord")
    again, _ = record_index.load_or_build(str(tmp_path), "train", names, "tfrecord")
    assert sorted(seen) == ["a", "b"]
    for before, after in zip(first, again, strict=True):
        np.testing.assert_array_equal(before.offsets, after.offsets)
        np.testing.assert_array_equal(before.checksums, after.checksums)
    write_records(tmp_path / "b", PAYLOADS[:2])
    changed, _ = record_index.load_or_build(str(tmp_path), "train", names, "tfrecord")
    assert sorted(seen) == ["a", "b", "b"]
    assert [index.count for index in changed] == [4, 2]


def test_damaged_index_is_rebuilt(tmp_path, monkeypatch):
    write_records(tmp_path / "a", PAYLOADS)
    record_index.load_or_build(str(tmp_path), "train", ["a"], "tfrecord")
    place = cache.cache_path(tmp_path, "train-index.npz")
    content = bytearray(place.read_bytes())
    seen = scans(monkeypatch)
    for position in range(0, len(content), 97):
        damaged = bytearray(content)
        damaged[position] ^= 4
        place.write_bytes(damaged)
        (index,), _ = record_index.load_or_build(str(tmp_path), "train", ["a"], "tfrecord")
        assert index.lengths.tolist() == [5, 0, 1000, 256]
    assert len(seen) == len(range(0, len(content), 97))


def test_read_only_folder_uses_the_cache_folder(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    folder.mkdir()
    write_records(folder / "a", PAYLOADS)
    folder.chmod(0o555)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.delenv(cache.ENVIRONMENT, raising=False)
    record_index.load_or_build(str(folder), "train", ["a"], "tfrecord")
    folder.chmod(0o755)
    assert [path.name for path in folder.iterdir()] == ["a"]
    assert list((tmp_path / "xdg" / "farsighted").rglob("train-index.npz"))


def test_cache_folder_by_argument_before_environment(tmp_path, monkeypatch):
    monkeypatch.setenv(cache.ENVIRONMENT, str(tmp_path / "environment"))
    assert cache.cache_path(tmp_path, "f").is_relative_to(tmp_path / "environment")
    assert cache.cache_path(tmp_path, "f", tmp_path / "argument").is_relative_to(tmp_path / "argument")
    monkeypatch.delenv(cache.ENVIRONMENT)
    assert cache.cache_path(tmp_path, "f").parent == tmp_path


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    cache.write_atomically(tmp_path / "f", b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"):
        cache.write_atomically(tmp_path / "f", b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["f"]
    assert (tmp_path / "f").read_bytes() == b"old"


def test_absent_file_is_named(tmp_path):
    with pytest.raises(DatasetError, match="absent"):
        records.scan(str(tmp_path / "absent"), "tfrecord")
    with pytest.raises(ValueError, match="not one of"):
        records.scan(str(tmp_path / "absent"), "csv")
