"""Datasets behind http://: by ranges, repeated where that helps, refused with the URL where it does not."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import range_server
from rlds_writer import write_rlds

from data_pipelines import http_files, local_copy, record_index, records, remote, rlds
from data_pipelines.errors import DatasetError, RemoteError
from data_pipelines.stream import open_stream


@pytest.fixture
def server(tmp_path, monkeypatch):
    monkeypatch.setattr(http_files, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "cache"))
    with range_server.serving(tmp_path) as found:
        yield found


def actions(directory):
    return [episode.actions.tolist() for episode in rlds.open_split(directory, "tiny", "train").episodes()]


@pytest.mark.parametrize("file_format", records.FORMATS)
def test_a_dataset_behind_http_is_the_one_on_disk(tmp_path, server, file_format):
    write_rlds(tmp_path, file_format=file_format)
    assert actions(server.url) == actions(tmp_path)
    near, far = (rlds.open_split(root, "tiny", "train") for root in (tmp_path, server.url))
    assert far.fingerprint == near.fingerprint
    np.testing.assert_array_equal(far.episode(2).rgb(3), near.episode(2).rgb(3))
    settings = {"mixture": "tiny", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4)}
    batches = [
        open_stream({"dir": str(root), **settings}, batch_size=8, seed=0).batch(3)
        for root in (tmp_path, server.url)
    ]
    for name, values in batches[0].items():
        np.testing.assert_array_equal(batches[1][name], values, err_msg=name)


def test_only_what_is_asked_for_is_read(tmp_path, server):
    folder = write_rlds(tmp_path, size=(96, 96), lengths={"train": (12,) * 8}, shards=1)
    (shard,) = folder.glob("*.tfrecord*")
    split = rlds.open_split(server.url, "tiny", "train")
    server.num_bytes = 0
    split.episode(5)
    assert 0 < server.num_bytes < shard.stat().st_size / 6
    before = len(server.requests)
    rlds.open_split(server.url, "tiny", "train")
    assert not [request for request in server.requests[before:] if request[0] == "GET" and request[2]]


def test_a_small_file_is_indexed_in_one_request(tmp_path, server):
    folder = write_rlds(tmp_path, shards=1, lengths={"train": (2,) * 10}, size=(4, 4))
    (shard,) = folder.glob("*.tfrecord*")
    assert records.scan(f"{server.url}/tiny/1.0.0/{shard.name}", "tfrecord").count == 10
    assert [method for method, _, _ in server.requests] == ["HEAD", "GET"]


def test_dropped_connections_and_a_busy_server_are_asked_again(tmp_path, server):
    write_rlds(tmp_path)
    expected = actions(tmp_path)
    split = rlds.open_split(server.url, "tiny", "train")
    server.drop, server.busy = 3, 2
    assert [episode.actions.tolist() for episode in split.episodes()] == expected
    assert server.drop == server.busy == 0


def test_what_stays_wrong_ends_with_the_url_and_the_reason(tmp_path, server):
    folder = write_rlds(tmp_path, shards=1)
    (shard,) = folder.glob("*train.tfrecord*")
    split, url = rlds.open_split(server.url, "tiny", "train"), f"{server.url}/tiny/1.0.0/{shard.name}"
    server.drop = 10**6
    with pytest.raises(DatasetError, match=rf"{url}: .*IncompleteRead.*gave up after 6 attempts"):
        split.episode(0)
    server.drop, server.busy = 0, 10**6
    with pytest.raises(DatasetError, match=rf"{url}: .*503.*gave up after 6 attempts"):
        split.episode(0)
    server.busy = 0
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(DatasetError, match=rf"{url}: has \d+ bytes, but had \d+"):
        split.episode(0)
    shard.unlink()
    with pytest.raises(DatasetError, match=rf"{url}: no such file or folder \(404"):
        split.episode(0)


def test_a_server_that_ignores_ranges_is_refused_without_reading_the_file(tmp_path, server):
    write_rlds(tmp_path, shards=1)
    server.ranges = False
    with pytest.raises(DatasetError, match=rf"{server.url}/tiny/1.0.0/tiny-train.*ignores Range"):
        rlds.open_split(server.url, "tiny", "train")
    assert len([request for request in server.requests if request[2]]) == 1


def test_what_cannot_be_listed_or_is_not_there(tmp_path, server):
    write_rlds(tmp_path)
    with pytest.raises(DatasetError, match="no dataset folder .*absent.*'tiny'"):
        rlds.open_split(server.url, "absent", "train")
    server.lists = False
    with pytest.raises(RemoteError, match=f"{server.url}/tiny/: the server answers 403"):
        rlds.open_split(server.url, "tiny", "train")


def test_nobody_there(monkeypatch):
    monkeypatch.setattr(http_files, "FIRST_PAUSE_S", 0.001)
    with pytest.raises(RemoteError, match="http://127.0.0.1:9/.*gave up after 6 attempts"):
        rlds.open_split("http://127.0.0.1:9", "tiny", "train")


@pytest.mark.parametrize(("uri", "command"), [("gs://bucket/x", r"\[gcs\]"), ("s3://bucket/x", "s3fs")])
def test_a_missing_package_is_named_with_what_to_run(monkeypatch, uri, command):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RemoteError, match=f"{uri}.* needs the package .* run: pip install .*{command}"):
        rlds.open_split(uri, "tiny", "train")


def test_a_copy_goes_on_where_it_was_cut_off(tmp_path, server, monkeypatch):
    (tmp_path / "shard").write_bytes(bytes(range(256)) * 40)
    monkeypatch.setattr(local_copy, "PART_BYTES", 1000)
    reads = []
    read_at = http_files.HttpFile.read_at

    def failing(self, offset, size):
        reads.append(offset)
        if len(reads) == 5:
            raise RemoteError("cut off")
        return read_at(self, offset, size)

    monkeypatch.setattr(http_files.HttpFile, "read_at", failing)
    with pytest.raises(DatasetError, match="cut off"):
        local_copy.local_folder(server.url, ["shard"])
    place = local_copy.local_folder(server.url, ["shard"])
    assert reads == [0, 1000, 2000, 3000, 4000, *range(4000, 10240, 1000)]
    with open(os.path.join(place, "shard"), "rb") as copy:
        assert copy.read() == bytes(range(256)) * 40
    reads.clear()
    local_copy.local_folder(server.url, ["shard"])
    assert not reads


KILLED = """
import os, signal, sys, time
from data_pipelines import record_index, records
record_index._STORE_EVERY_S, record_index._SCAN_THREADS = -1.0, 2
scan, save, names, saves = records.scan, record_index._save, sys.argv[2:], []
def scan_until(path, form):
    if path.endswith(names[-2]):
        while len(saves) < len(names) - 2:
            time.sleep(0.001)
        os.kill(os.getpid(), signal.SIGKILL)
    return scan(path, form)
def counted(*arguments):
    save(*arguments)
    saves.append(1)
records.scan, record_index._save = scan_until, counted
record_index.load_or_build(sys.argv[1], "train", names, "tfrecord")
"""


def test_an_index_goes_on_where_it_was_killed(tmp_path, monkeypatch):
    monkeypatch.delenv("FARSIGHTED_CACHE", raising=False)
    folder = write_rlds(tmp_path, lengths={"train": (2,) * 12}, shards=12, size=(4, 4))
    names = sorted(path.name for path in folder.glob("*.tfrecord*"))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(folder), *names], check=False)
    assert killed.returncode == -signal.SIGKILL
    scanned, scan = [], records.scan
    monkeypatch.setattr(records, "scan", lambda path, form: scanned.append(path) or scan(path, form))
    indexes, _ = record_index.load_or_build(str(folder), "train", names, "tfrecord")
    assert [index.count for index in indexes] == [1] * 12
    assert str(folder / names[-2]) in scanned and len(scanned) <= 2


def test_blocks_give_what_the_file_holds(tmp_path):
    class File:
        size = 300_000
        content = np.random.default_rng(0).bytes(300_000)

        def read_at(self, offset, size):
            return self.content[offset : offset + size]

    blocks = remote.BlockReader(File())
    for offset, size in [(0, 12), (12, 70_000), (65_530, 20), (299_990, 30), (299_999, 1), (10, 5)]:
        assert blocks.read_at(offset, size) == File.content[offset : offset + size]
