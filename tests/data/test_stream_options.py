"""Drawn gaps, whole windows and disturbed depth: options of the stream that experiments need."""

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.depth_noise import HOLE_SHARE, disturbed_depth
from data_pipelines.stream import open_stream
from data_pipelines.trajectory import KeyframeError
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.normalization import denormalize_depth

SCALES = (1.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds")
    write_rlds(folder, "long", lengths={"train": (12, 9, 8), "val": (10, 8)}, depth="png", size=(16, 16))
    return folder


def opened(root, batch_size=8, seed=3, **changes):
    of_stream = {"train", "process_index", "process_count"} & changes.keys()
    sizes = {name: changes.pop(name) for name in of_stream}
    data = {"dir": str(root), "mixture": "long", "split": "train", "resolution": 16, "offsets_s": (0.2, 0.4)}
    return open_stream(data | changes, batch_size=batch_size, seed=seed, **sizes)


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def joined(batches):
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def test_every_window_draws_its_own_gap_and_its_times_and_actions_follow(root):
    stream = opened(root, offset_scales=SCALES, augment=True, jitter=0.2)
    batches = joined([stream.batch(step) for step in range(30)])
    check(batches, values=True)
    ratio = np.rint(batches["time_s"][:, 1] / 0.2)
    assert {scale: (ratio == scale).sum() > 50 for scale in SCALES} == dict.fromkeys(SCALES, True)
    np.testing.assert_allclose(batches["time_s"][:, 2][batches["frame_valid"][:, 2]],
                               0.4 * ratio[batches["frame_valid"][:, 2]], rtol=1e-6)  # fmt: skip
    for row in range(20):
        episode = stream._sources["long"].split.episode(int(batches["episode"][row]))
        first, gap = int(batches["step"][row]), int(ratio[row])
        expected = episode.actions[first : first + gap, :6].sum(axis=0)
        np.testing.assert_allclose(batches["action_sum"][row, 0, :6], expected, atol=1e-5)


def test_a_window_has_room_for_the_largest_of_its_gaps(root):
    """Else far gaps would be masked more often than near ones, and so trained less."""
    stream = opened(root, offset_scales=SCALES)
    assert stream.num_windows == sum(length - 4 for length in (12, 9, 8))
    batches = joined([stream.batch(step) for step in range(20)])
    assert batches["frame_valid"][:, :2].all() and not batches["frame_valid"].all()
    whole = opened(root, offset_scales=SCALES, whole_windows=True)
    assert whole.num_windows == sum(length - 8 for length in (12, 9, 8))
    assert joined([whole.batch(step) for step in range(20)])["frame_valid"].all()


def test_drawn_gaps_are_the_same_for_readers_hosts_and_resumed_runs(root):
    options = {"offset_scales": SCALES, "augment": True, "shift": 0.2, "depth_noise": 0.1}
    whole = opened(root, **options)
    expected = [whole.batch(step) for step in range(8)]
    for first in (0, 5):
        batches = opened(root, **options).batches(first, readers=3, prefetch=2)
        for step in range(first, 8):
            assert_same(next(batches)[1], expected[step])
        batches.close()
    hosts = [opened(root, process_index=p, process_count=4, **options) for p in range(4)]
    assert_same(joined([host.batch(6) for host in hosts]), expected[6])
    other = opened(root, seed=4, **options).batch(6)
    assert (other["time_s"] != expected[6]["time_s"]).any()


def test_one_scale_draws_nothing_and_evaluation_takes_the_offsets_as_they_are(root):
    options = {"augment": True, "shift": 0.2, "jitter": 0.2}
    assert_same(opened(root, **options).batch(3), opened(root, offset_scales=(1.0,), **options).batch(3))
    scaled = opened(root, train=False, offset_scales=SCALES)
    plain = opened(root, train=False)
    assert_same(scaled.batch(3), plain.batch(3))
    for here, there in zip(scaled.epoch(), plain.epoch(), strict=True):
        assert_same(here, there)


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"offset_scales": ()}, ConfigError, "offset_scales.*empty"),
        ({"offset_scales": (1.0, -2.0)}, ConfigError, "offset_scales.*-2.0"),
        ({"offset_scales": (0.5,)}, KeyframeError, "'long' at 5 Hz.*0.1, 0.2"),
        ({"depth_noise": 1.5}, ConfigError, "depth_noise.*1.5"),
    ],
)
def test_scales_that_cannot_be_are_refused(root, changes, error, named):
    with pytest.raises(error, match=named):
        opened(root, **changes)


def test_sensed_depth_is_noisy_and_the_target_stays_clean(root):
    batch, clean = opened(root, depth_noise=0.1).batch(2), opened(root).batch(2)
    check(batch, values=True)
    for name in clean:
        np.testing.assert_array_equal(batch[name], clean[name], err_msg=name)
    sensed, valid = batch["sensed_depth_valid"], batch["depth_valid"]
    assert not (sensed & ~valid).any() and 0.02 < 1 - sensed.sum() / valid.sum() < 0.3
    assert not batch["sensed_depth"][~sensed].any()
    constants = batch["depth_center"][0], batch["depth_scale"][0]
    sensed_m, true_m = (denormalize_depth(batch[name], *constants) for name in ("sensed_depth", "depth"))
    assert 0.06 < np.log(sensed_m / true_m)[sensed].std() < 0.15


def test_a_frame_errs_alike_in_every_window(root):
    stream = opened(root, depth_noise=0.1, train=False)
    seen = {}
    for batch in stream.epoch():
        for row in np.flatnonzero(batch["frame_valid"][:, 0]):
            for k in np.flatnonzero(batch["frame_valid"][row]):
                frame = (int(batch["episode"][row]), int(batch["step"][row]) + int(k))
                again = seen.setdefault(frame, batch["sensed_depth"][row, k].copy())
                np.testing.assert_array_equal(again, batch["sensed_depth"][row, k])
    first, second = seen[0, 0], seen[0, 1]
    assert len(seen) == 12 + 9 + 8 and (first != second).any()


def test_noise_is_as_strong_as_it_says():
    depth_HW, valid_HW = np.full((64, 64), 2.0, np.float32), np.ones((64, 64), bool)
    valid_HW[:8] = False
    found_HW, left_HW = disturbed_depth(depth_HW, valid_HW, 0.1, np.random.default_rng(0))
    assert abs(np.log(found_HW[left_HW] / 2).std() - 0.1) < 0.01 and found_HW.dtype == np.float32
    assert not left_HW[:8].any() and not found_HW[~left_HW].any()
    assert abs(1 - left_HW[8:].mean() - HOLE_SHARE) < 0.08
