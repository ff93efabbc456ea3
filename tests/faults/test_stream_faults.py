"""Faults that reach the stream: rows B4, B5, B6, B7, B11, B13 of the table of faults."""

import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.prefetch import ReaderError, read_ahead
from data_pipelines.stream import open_stream


def config(root, **changes):
    return {
        "dir": str(root), "mixture": "tiny", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4),
        "action_horizon": 3,
    } | changes  # fmt: skip


def break_image(split, episode, steps):
    if episode == 1:
        steps[2]["observation"]["image"] = b"\x89PNG broken"


def test_b4_an_undecodable_image_names_its_place(tmp_path):
    write_rlds(tmp_path, edit=break_image)
    stream = open_stream(config(tmp_path), batch_size=4, seed=0)
    with pytest.raises(RecordError) as caught:
        for _ in stream.epoch():
            pass
    message = str(caught.value)
    for part in (
        "'tiny'",
        "tiny-train.tfrecord-00000-of-00002",
        "episode 1",
        "step 2",
        "'observation/image'",
        "decode",
    ):
        assert part in message, (part, message)
    with pytest.raises(RecordError):
        for step, _ in stream.batches(0):
            assert step < 10


def test_b4_with_skip_the_frame_is_masked_and_counted(tmp_path):
    write_rlds(tmp_path, edit=break_image)
    stream = open_stream(config(tmp_path, on_corrupt="skip"), batch_size=4, seed=0)
    masked = 0
    for batch in stream.epoch():
        for row in range(4):
            frames = batch["step"][row] + np.arange(3)
            broken = (batch["episode"][row] == 1) & (frames == 2)
            if broken[0]:
                assert not batch["frame_valid"][row].any() and not batch["rgb"][row].any()
            elif broken.any():
                assert not batch["frame_valid"][row][broken].any() and not batch["rgb"][row][broken].any()
                assert batch["frame_valid"][row][0] and not batch["action_sum_valid"][row][broken[1:]].any()
            masked += int(broken.any())
    assert masked == stream.counts["unread_frames"] == 3
    assert stream.counts["tiny"]["unread_frames_for"] == {"damaged": 3}


def test_b5_a_non_finite_action_never_reaches_a_batch(tmp_path):
    def edit(split, episode, steps):
        if episode == 2:
            steps[1]["action"][0] = np.inf

    write_rlds(tmp_path, edit=edit)
    with pytest.raises(RecordError, match="episode 2.*step 1"):
        open_stream(config(tmp_path), batch_size=2, seed=0)
    stream = open_stream(config(tmp_path, on_corrupt="skip"), batch_size=2, seed=0)
    assert stream.counts["tiny"]["episodes_skipped"] == 1
    assert stream.counts["tiny"]["episodes_skipped_for"] == {"not_finite": 1}
    for batch in stream.epoch():
        assert np.isfinite(batch["action"]).all() and 2 not in batch["episode"]


def test_b5_a_constant_dimension_stays_finite(tmp_path):
    def edit(split, episode, steps):
        for step in steps:
            step["action"][1] = 0.25

    write_rlds(tmp_path, edit=edit)
    batch = open_stream(config(tmp_path), batch_size=4, seed=0).batch(0)
    assert np.isfinite(batch["action"]).all() and not batch["action"][..., 1].any()


def test_b6_without_a_single_window_the_dataset_is_refused(tmp_path):
    write_rlds(tmp_path, lengths={"train": (1, 0, 1)})
    with pytest.raises(DatasetError, match="'tiny'"):
        open_stream(config(tmp_path), batch_size=2, seed=0)


@pytest.mark.parametrize("instruction", ["", "x" * 10_000, b"\xff\xfe not text"])
def test_b7_instructions_do_not_disturb_batches(tmp_path, instruction):
    write_rlds(tmp_path, instruction=instruction)
    stream = open_stream(config(tmp_path), batch_size=2, seed=0)
    assert stream.batch(0)["frame_valid"][:, :2].all() and stream.num_windows == 18


def test_b11_an_error_of_a_reader_is_raised_in_its_turn():
    def read(item):
        time.sleep(0.01 * (4 - item))
        if item == 3:
            raise OSError("the disk is gone")
        return item * item

    results = read_ahead(read, range(9), readers=3, prefetch=4, timeout_s=5)
    assert [next(results) for _ in range(3)] == [(0, 0), (1, 1), (2, 4)]
    with pytest.raises(OSError, match="the disk is gone") as caught:
        next(results)
    assert any("item 3" in note for note in caught.value.__notes__)


def test_b11_a_stuck_reader_is_an_error_in_bounded_time():
    release = threading.Event()
    results = read_ahead(
        lambda item: release.wait(30) if item == 1 else item, range(5), readers=2, prefetch=3, timeout_s=0.2
    )
    assert next(results) == (0, 0)
    begin = time.monotonic()
    with pytest.raises(ReaderError, match="item 1"):
        next(results)
    assert time.monotonic() - begin < 5
    release.set()


def test_b11_a_process_with_a_stuck_reader_exits():
    code = (
        "import time\nfrom data_pipelines import prefetch\nfrom data_pipelines.prefetch import read_ahead\n"
        "prefetch.EXIT_WAIT_S = 0.5\n"
        "results = read_ahead(lambda i: time.sleep(60 * i), range(4), readers=2, prefetch=2, timeout_s=0.1)\n"
        "next(results)\nnext(results)\n"
    )
    begin = time.monotonic()
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert run.returncode == 1 and "ReaderError" in run.stderr and time.monotonic() - begin < 20


def test_b11_a_process_that_ends_waits_for_what_its_readers_are_at():
    """Else a reader inside a C++ library aborts the process; here it would not get to write."""
    code = (
        "import sys, time\nfrom data_pipelines import prefetch\n"
        "def read(item):\n    time.sleep(0.3 * item)\n    item and sys.stdout.write('done ')\n"
        "prefetch.CLOSE_WAIT_S = 0.0\n"
        "results = prefetch.read_ahead(read, range(3), readers=3, prefetch=3, timeout_s=9)\n"
        "next(results)\nresults.close()\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0 and run.stdout == "done done "


def test_reading_ahead_is_bounded_ordered_and_ends():
    lock, begun, most = threading.Lock(), [], [0]

    def read(item):
        with lock:
            begun.append(item)
        time.sleep(0.001 * (item % 3))
        return item

    for taken, (item, value) in enumerate(read_ahead(read, range(40), readers=4, prefetch=5, timeout_s=5)):
        assert item == value == taken
        with lock:
            most[0] = max(most[0], len(begun) - taken - 1)
    assert taken == 39 and most[0] <= 5
    assert list(read_ahead(read, [], readers=2, prefetch=2, timeout_s=1)) == []


def test_closing_ends_the_threads():
    before = threading.active_count()
    results = read_ahead(lambda item: item, iter(int, 1), readers=4, prefetch=4, timeout_s=5)
    next(results)
    assert threading.active_count() == before + 4
    results.close()
    assert threading.active_count() == before


def test_b13_changed_data_are_refused_by_name(tmp_path):
    write_rlds(tmp_path, lengths={"train": (6, 5)})
    saved = open_stream(config(tmp_path), batch_size=2, seed=0)
    same = open_stream(config(tmp_path, cache_dir=str(tmp_path / "cache")), batch_size=2, seed=1)
    assert same.fingerprint == saved.fingerprint
    same.check_fingerprints(saved.fingerprints)
    (tmp_path / "tiny").rename(tmp_path / "old")
    write_rlds(tmp_path, lengths={"train": (6, 4)})
    changed = open_stream(config(tmp_path), batch_size=2, seed=0)
    assert changed.fingerprint != saved.fingerprint
    with pytest.raises(DatasetError, match="changed since.*tiny"):
        changed.check_fingerprints(saved.fingerprints)


def test_a_missing_dataset_lists_what_is_there(tmp_path):
    write_rlds(tmp_path)
    with pytest.raises(DatasetError, match=re.escape("['tiny']")):
        open_stream(config(tmp_path, mixture="tony"), batch_size=2, seed=0)
