"""Rows of the table of faults that need hosts, many steps or several files: B1, B2, B3, B4, B5, B8, B15."""

import os
import re

import numpy as np
import pytest
from rlds_writer import framed, write_rlds

from data_pipelines import records
from data_pipelines.errors import DatasetError
from data_pipelines.reading_rate import resident_mb
from data_pipelines.stream import open_stream

LENGTHS = {"train": (6,) * 20}


def config(root, **changes):
    return {
        "dir": str(root), "mixture": "tiny", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4),
        "action_horizon": 3,
    } | changes  # fmt: skip


def shards(folder):
    return sorted(folder.glob("tiny-train*"))


def ids(batch):
    return list(zip(*(batch[name].tolist() for name in ("dataset", "episode", "step")), strict=True))


def offsets(path):
    """Byte offset of each record of a TFRecord file."""
    return records.scan(str(path), "tfrecord").offsets


def test_b1_b2_with_skip_all_others_are_delivered_and_the_counts_say_why(tmp_path):
    def edit(split, episode, steps):
        if episode == 15:
            steps[2]["observation"]["image"] = b"\x89PNG broken"

    folder = write_rlds(tmp_path, lengths=LENGTHS, edit=edit)
    content = bytearray(shards(folder)[0].read_bytes())
    content[offsets(shards(folder)[0])[4] + 12 + 40] ^= 4
    shards(folder)[0].write_bytes(content)
    stream = open_stream(config(tmp_path, on_corrupt="skip"), batch_size=4, seed=0)
    seen = {episode for batch in stream.epoch() for _, episode, _ in ids(batch) if episode >= 0}
    assert seen == set(range(20)) - {4}
    assert stream.counts["tiny"]["episodes_skipped_for"] == {"damaged": 1}
    # What a checkpoint keeps, and what a log does.
    assert stream.statistics["tiny"]["skipped"] == {"damaged": 1}
    assert stream.metrics == {
        "data/episodes_skipped": 1.0,
        "data/episodes_skipped/tiny/damaged": 1.0,
        "data/unread_frames": 3.0,
        "data/unread_frames/tiny/damaged": 3.0,
    }


@pytest.mark.parametrize("broken", [b"", b"\x1f\x8b\x08\x00" + bytes(40), b"garbage " * 20])
def test_b2_a_shard_that_is_no_record_file_is_more_than_may_be_skipped(tmp_path, broken):
    folder = write_rlds(tmp_path, lengths=LENGTHS)
    shards(folder)[1].write_bytes(broken)
    for policy, message in (("strict", "00001-of-00002: record 0"), ("skip", "of 20 episodes are damaged")):
        with pytest.raises(DatasetError, match=message):
            open_stream(config(tmp_path, on_corrupt=policy), batch_size=4, seed=0)


@pytest.mark.parametrize("hosts", [1, 2, 4])
@pytest.mark.parametrize("fault", ["cut", "missing", "extra"])
def test_b3_every_host_refuses_shards_that_are_not_as_declared(tmp_path, hosts, fault):
    folder = write_rlds(tmp_path, lengths=LENGTHS, shards=4)
    if fault == "cut":
        first = (
            open_stream(config(tmp_path), batch_size=4, seed=0)._sources["tiny"].split._records._indexes[2]
        )
        os.truncate(shards(folder)[2], int(first.offsets[3]))
        named = "tiny-train.tfrecord-00002-of-00004: 3 records, expected 5"
    elif fault == "missing":
        shards(folder)[1].unlink()
        named = "missing file(s) ['tiny-train.tfrecord-00001-of-00004']"
    else:
        (folder / "tiny-train.tfrecord-00004-of-00005").write_bytes(framed(b"x"))
        named = "extra file(s) ['tiny-train.tfrecord-00004-of-00005']"
    for host in range(hosts):
        with pytest.raises(DatasetError, match=re.escape(named)):
            open_stream(config(tmp_path), batch_size=4, seed=0, process_index=host, process_count=hosts)


def test_b4_an_image_of_another_size_than_declared_is_resized_like_any(tmp_path):
    def edit(split, episode, steps):
        for step in steps:
            step["observation"]["image"] = np.full((20, 6, 3), 90, np.uint8)

    write_rlds(tmp_path, edit=edit)
    assert (open_stream(config(tmp_path), batch_size=4, seed=0).batch(0)["rgb"][:, 0] == 90).all()


def test_b5_an_outlier_stays_finite_and_within_the_normalised_range(tmp_path):
    def edit(split, episode, steps):
        if episode == 3:
            steps[1]["action"][0] = 1e30

    write_rlds(tmp_path, lengths=LENGTHS, edit=edit)
    for normalization in ("q01_q99", "mean_std"):
        stream = open_stream(config(tmp_path, normalization=normalization), batch_size=16, seed=0)
        assert np.isfinite(stream.statistics["tiny"]["action"]["std"]).all()
        for batch in stream.epoch():
            assert np.isfinite(batch["action"]).all() and np.isfinite(batch["action_sum"]).all()


def test_b8_one_order_for_readers_hosts_and_resumed_runs(tmp_path):
    write_rlds(tmp_path, lengths=LENGTHS)

    def read(hosts, readers, first=0, last=12):
        parts = [
            open_stream(config(tmp_path), batch_size=4, seed=7, process_index=host, process_count=hosts)
            for host in range(hosts)
        ]
        batches = [part.batches(first, readers=readers, prefetch=5) for part in parts]
        found = [sum((ids(next(part)[1]) for part in batches), []) for _ in range(first, last)]
        for part in batches:
            part.close()
        return found

    expected = read(1, 1)
    for hosts, readers in ((1, 4), (2, 1), (2, 4), (4, 2)):
        assert read(hosts, readers) == expected
    for resumed in (1, 5, 11):
        assert read(2, 3, resumed) == expected[resumed:]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors through /proc")
@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
def test_b15_a_thousand_steps_neither_grow_nor_leave_files_open(tmp_path, file_format):
    write_rlds(tmp_path, lengths={"train": (20,) * 24}, shards=3, size=(48, 48), file_format=file_format)
    # A third of it can be kept, so that what is kept changes all the time.
    stream = open_stream(config(tmp_path, memory_mb=2.0), batch_size=2, seed=0)
    memory_mb, handles = [], set()
    for step, _ in stream.batches(0, readers=3, prefetch=4):
        if step >= 100:
            memory_mb.append(resident_mb())
            handles.add(len(os.listdir("/proc/self/fd")))
        if step == 1100:
            break
    slope = np.polyfit(np.arange(len(memory_mb)), memory_mb, 1)[0]
    assert 100 * slope < 1.0
    assert len(handles) == 1
    assert stream.memory["kept_mb"] <= 2
