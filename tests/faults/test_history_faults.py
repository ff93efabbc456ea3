"""Images of a history that cannot be read: named, or masked and counted."""

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.errors import RecordError
from data_pipelines.stream import open_stream

BROKEN = b"\x89PNG broken"
STEP = 2


def opened(root, **changes):
    data = {
        "dir": str(root), "mixture": "tiny", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4),
        "cameras": ("primary", "wrist"), "history_s": (0.2,),
    }  # fmt: skip
    return open_stream(data | changes, batch_size=4, seed=0, train=False)


def breaking(key):
    def edit(split, episode, steps):
        if episode == 1:
            steps[STEP]["observation"][key] = BROKEN

    return edit


def test_a_broken_image_of_another_camera_names_its_place(tmp_path):
    write_rlds(tmp_path, wrist=True, edit=breaking("wrist"))
    with pytest.raises(RecordError, match="'tiny', episode 1.*step 2, key 'observation/wrist'.*decode"):
        list(opened(tmp_path).epoch(readers=1, prefetch=1))


def test_with_skip_only_that_image_is_masked_and_counted(tmp_path):
    write_rlds(tmp_path, wrist=True, edit=breaking("wrist"))
    stream, masked = opened(tmp_path, on_corrupt="skip"), 0
    for batch in stream.epoch(readers=1, prefetch=1):
        for row in np.flatnonzero(batch["episode"] >= 0):
            steps = batch["step"][row] - np.array([1, 0])
            broken = (batch["episode"][row] == 1) & (steps == STEP)
            np.testing.assert_array_equal(batch["history_valid"][row, :, 0], steps >= 0)
            np.testing.assert_array_equal(batch["history_valid"][row, :, 1], (steps >= 0) & ~broken)
            assert not batch["history_rgb"][row, broken, 1].any() and batch["frame_valid"][row, :2].all()
            masked += int(broken.sum())
    assert masked == stream.counts["unread_frames"] == 2


def test_without_frame_0_the_row_has_no_history(tmp_path):
    write_rlds(tmp_path, wrist=True, edit=breaking("image"))
    seen = set()
    for batch in opened(tmp_path, on_corrupt="skip").epoch(readers=1, prefetch=1):
        for row in np.flatnonzero(batch["episode"] == 1):
            valid, step = batch["history_valid"][row], int(batch["step"][row])
            expected = {STEP: [[False] * 2] * 2, STEP + 1: [[False, True], [True, True]]}
            assert valid.tolist() == expected.get(step, [[step > 0] * 2, [True] * 2])
            assert not batch["history_rgb"][row][~valid].any()
            seen.add(step)
    assert seen == {0, 1, 2, 3}
