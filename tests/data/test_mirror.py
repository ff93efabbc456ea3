"""Copies of datasets: the same episodes, resumable, verified, read by TFDS and by the reader alike."""

import json
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest
import range_server
import tensorflow_datasets as tfds
from rlds_writer import write_rlds

from data_pipelines import mirror as mirror_module
from data_pipelines import rlds
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.frame import Preprocessing, prepare_rgb
from data_pipelines.mirror import mirror
from data_pipelines.resize_records import ImageResizer
from data_pipelines.stream import open_stream
from farsighted_jax.cli.main import main


def payloads(directory, split="train"):
    records = rlds.open_split(directory, "tiny", split)._records
    return [records.read(number) for number in range(len(records))]


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_a_copy_holds_the_same_episodes(tmp_path, file_format):
    write_rlds(tmp_path, file_format=file_format, depth="png")
    folder = mirror(tmp_path / "tiny", tmp_path / "copy")
    assert folder == tmp_path / "copy" / "tiny" / "1.0.0"
    for split in ("train", "val"):
        assert payloads(tmp_path / "copy", split) == payloads(tmp_path, split)
    info = json.loads((folder / "dataset_info.json").read_text())
    assert info["fileFormat"] == "array_record"
    assert [entry["shardLengths"] for entry in info["splits"]] == [["2", "2"], ["2"]]
    source = tfds.builder_from_directory(str(folder)).as_data_source("train")
    assert [len(list(episode["steps"])) for episode in source] == [6, 5, 4, 7]
    steps = list(source[3]["steps"])
    episode = rlds.open_split(tmp_path, "tiny", "train").episode(3)
    np.testing.assert_array_equal(steps[6]["observation"]["image"], episode.rgb(6))
    np.testing.assert_array_equal(np.stack([step["action"] for step in steps]), episode.actions)


def test_a_training_at_the_copy_s_size_gets_the_same_batches(tmp_path):
    write_rlds(tmp_path, size=(48, 40), depth="png", wrist=True)
    folder = mirror(tmp_path / "tiny" / "1.0.0", tmp_path / "copy", resize=16)
    settings = {
        "mixture": "tiny", "split": "train", "resolution": 16, "offsets_s": (0.2, 0.4), "depth": "on",
        "augment": True, "shift": 0.2, "jitter": 0.3, "cameras": ("primary", "wrist"),
    }  # fmt: skip
    stored = open_stream({"dir": str(tmp_path), **settings}, batch_size=8, seed=0)
    copied = open_stream(
        {"dir": str(folder.parents[1]), **settings}, batch_size=8, seed=0, statistics=stored.statistics
    )
    for step in range(3):
        batch = copied.batch(step)
        for name, values in stored.batch(step).items():
            np.testing.assert_array_equal(batch[name], values, err_msg=name)
    features = tfds.builder_from_directory(str(folder)).info.features["steps"]["observation"]
    assert features["image"].shape == (16, 16, 3) and features["depth"].shape == (16, 16, 1)


def test_jpeg_stays_jpeg_and_an_absent_image_absent(tmp_path):
    image = np.full((24, 32, 3), (200, 30, 90), np.uint8)

    def edit(split, episode, steps):
        for step in steps:
            step["observation"]["image"] = cv2.imencode(".jpg", image)[1].tobytes()
        steps[1]["observation"]["image"] = b""

    folder = write_rlds(tmp_path, edit=edit)
    mirror(folder, tmp_path / "copy", resize=10)
    episode = rlds.open_split(tmp_path / "copy", "tiny", "train").episode(0)
    assert episode.rgb_bytes(0)[:2] == b"\xff\xd8" and episode.rgb(0).shape == (10, 10, 3)
    stored = rlds.open_split(tmp_path, "tiny", "train").episode(0).rgb(0)
    expected = prepare_rgb(stored, Preprocessing(10)).astype(int)
    assert np.abs(episode.rgb(0) - expected).max() <= 3
    assert episode.rgb_bytes(1) == b""


KILLED = """
import os, signal, sys
from data_pipelines import mirror
read_back, calls = mirror._read_back, []
def killing(path, count):
    calls.append(path)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return read_back(path, count)
mirror._read_back = killing
mirror.mirror(sys.argv[1], sys.argv[2], threads=1)
"""


def test_it_goes_on_where_it_was_killed(tmp_path):
    write_rlds(tmp_path, lengths={"train": (3,) * 8}, shards=4)
    command = [sys.executable, "-c", KILLED, str(tmp_path / "tiny"), str(tmp_path / "copy")]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    with pytest.raises(DatasetError, match="dataset_info.json"):
        rlds.open_split(tmp_path / "copy", "tiny", "train")
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "copy").rglob("tiny-train*")}
    lines = []
    folder = mirror(tmp_path / "tiny", tmp_path / "copy", progress=lines.append)
    assert len(done) == 2 and sum("there already" in line for line in lines) == 2
    for name, time in done.items():
        assert (folder / name).stat().st_mtime_ns == time
    assert payloads(tmp_path / "copy") == payloads(tmp_path)
    assert not list(folder.glob("*.part")) and not list(folder.glob(".*.part"))
    lines.clear()
    mirror(tmp_path / "tiny", tmp_path / "copy", progress=lines.append)
    assert sum("there already" in line for line in lines) == 4


def test_a_shard_that_was_changed_is_written_again(tmp_path):
    write_rlds(tmp_path)
    folder = mirror(tmp_path / "tiny", tmp_path / "copy")
    shard = next(folder.glob("tiny-val*"))
    shard.write_bytes(shard.read_bytes()[:-1])
    mirror(tmp_path / "tiny", tmp_path / "copy")
    assert payloads(tmp_path / "copy", "val") == payloads(tmp_path, "val")


def test_a_damaged_source_is_named_and_leaves_no_dataset(tmp_path):
    folder = write_rlds(tmp_path)
    shard = sorted(folder.glob("tiny-train*"))[1]
    content = bytearray(shard.read_bytes())
    content[200] ^= 1
    shard.write_bytes(content)
    with pytest.raises(RecordError, match=f"{shard.name}: record 0.*CRC-32C"):
        mirror(folder, tmp_path / "copy")
    assert not list((tmp_path / "copy").rglob("dataset_info.json"))


def test_a_disk_that_gives_back_something_else_is_noticed(tmp_path, monkeypatch):
    write_rlds(tmp_path)
    monkeypatch.setattr(mirror_module, "_read_back", lambda path, count: "0" * 64)
    with pytest.raises(DatasetError, match="tiny-.*is not what was written"):
        mirror(tmp_path / "tiny", tmp_path / "copy")
    assert not list((tmp_path / "copy").rglob("dataset_info.json"))


def test_a_folder_is_one_copy_of_one_source(tmp_path):
    write_rlds(tmp_path / "a")
    write_rlds(tmp_path / "b", lengths={"train": (3, 3)})
    mirror(tmp_path / "a" / "tiny", tmp_path / "copy")
    for source, resize in (("b", None), ("a", 8)):
        with pytest.raises(DatasetError, match="mirror.json: the folder holds another copy"):
            mirror(tmp_path / source / "tiny", tmp_path / "copy", resize=resize)
    with pytest.raises(DatasetError, match="is the source itself"):
        mirror(tmp_path / "a" / "tiny", tmp_path / "a")
    with pytest.raises(DatasetError, match="holds something that is no mirror"):
        mirror(tmp_path / "b" / "tiny", tmp_path / "a")
    with pytest.raises(DatasetError, match="gs://bucket: a mirror is written to a local folder"):
        mirror(tmp_path / "a" / "tiny", "gs://bucket")


def test_features_without_images_cannot_be_resized(tmp_path):
    folder = write_rlds(tmp_path, drop=("image",), spec=False)
    text = (folder / "features.json").read_text()
    with pytest.raises(DatasetError, match="no feature of class Image"):
        ImageResizer(text, "features.json", 8)


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_from_a_web_server_by_the_command(tmp_path, file_format, monkeypatch, capsys):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "cache"))
    write_rlds(tmp_path / "far", file_format=file_format)
    with range_server.serving(tmp_path / "far") as server:
        server.drop = 2
        assert main(["data", "mirror", f"{server.url}/tiny", str(tmp_path / "copy")]) == 0
    folder = tmp_path / "copy" / "tiny" / "1.0.0"
    assert str(folder) in capsys.readouterr().out
    assert not (folder / ".fetched").exists() and not (tmp_path / "cache").exists()
    assert payloads(tmp_path / "copy") == payloads(tmp_path / "far")
