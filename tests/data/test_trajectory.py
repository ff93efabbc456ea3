import numpy as np
import pytest

from data_pipelines.oxe.bridge import BRIDGE_DATASET
from data_pipelines.trajectory import (
    KeyframeError,
    action_chunk,
    action_sum,
    as_stored,
    geometric_offsets,
    keyframe_steps,
    keyframe_window,
    linear_offsets,
    oriented,
    window_counts,
)
from farsighted_jax.core.spec import ActionSpec


@pytest.mark.parametrize(
    "hz, offsets, steps",
    [
        (5, (0.2, 0.4, 0.6), (1, 2, 3)),
        (10, (0.1, 0.2, 0.3), (1, 2, 3)),
        (30, (0.1, 0.2, 0.4, 0.8), (3, 6, 12, 24)),
        (3, (0.3, 0.7), (1, 2)),
    ],
)
def test_offsets_are_the_nearest_frames(hz, offsets, steps):
    assert keyframe_steps(hz, offsets) == steps


def test_schedules_of_offsets():
    assert linear_offsets(0.6, 3) == (0.2, 0.4, 0.6)
    assert linear_offsets(0.5, 1) == (0.5,)
    assert geometric_offsets(0.1, 4) == (0.1, 0.2, 0.4, 0.8)
    assert geometric_offsets(0.2, 3, ratio=3.0) == (0.2, 0.6, 1.8)
    for hz in (5.0, 15.0, 30.0):
        assert keyframe_steps(hz, geometric_offsets(0.2, 4))[-1] == round(1.6 * hz)


@pytest.mark.parametrize(
    "wrong", [lambda: linear_offsets(0, 3), lambda: linear_offsets(1, 0), lambda: geometric_offsets(1, 2, 1)]
)
def test_a_schedule_that_does_not_advance_is_refused(wrong):
    with pytest.raises(KeyframeError, match="expected > 0"):
        wrong()


@pytest.mark.parametrize(
    "hz, offsets, works",
    [
        (5, (0.1, 0.2, 0.3), (0.2, 0.4, 0.6)),
        (5, (0.2, 0.25, 0.6), (0.2, 0.4, 0.6)),
        (5, (-0.2, 0.4), (0.2, 0.4)),
        (10, (0.4, 0.2), (0.4, 0.5)),
    ],
)
def test_offsets_that_cannot_be_told_apart_are_refused_with_ones_that_work(hz, offsets, works):
    with pytest.raises(KeyframeError) as caught:
        keyframe_steps(hz, offsets, "robot")
    message = str(caught.value)
    assert (
        "'robot'" in message and f"{hz} Hz" in message and str(offsets) in message and str(works) in message
    )
    assert len(keyframe_steps(hz, works)) == len(offsets)


def test_no_offset_is_refused():
    with pytest.raises(KeyframeError, match="empty"):
        keyframe_steps(5, (), "robot")


@pytest.mark.parametrize("steps", [(1, 2, 3), (2, 3), (3, 7, 12)])
def test_windows_against_a_loop(steps):
    for length in range(12):
        starts = []
        for start in range(length):
            if start + steps[0] < length:
                starts.append(start)
        assert window_counts(np.array([length]), steps)[0] == len(starts)
        for start in starts:
            window = keyframe_window(start, steps, length, hz=4.0)
            for k, ahead in enumerate((0, *steps)):
                exists = start + ahead < length
                assert window.valid[k] == exists
                assert window.frames[k] == (start + ahead if exists else 0)
                assert window.time_s[k] == (np.float32(ahead / 4.0) if exists else 0)
            assert window.valid[:2].all() and window.frames.max() < length


def test_empty_and_one_step_episodes_have_no_window():
    np.testing.assert_array_equal(window_counts(np.array([0, 1, 2, 10]), (1, 2, 3)), [0, 0, 1, 9])


@pytest.mark.parametrize("start", [0, 4, 6])
def test_action_chunk_against_a_loop(start):
    actions = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    chunk, valid = action_chunk(actions, start, 5)
    assert chunk.shape == (5, 3) and chunk.dtype == np.float32
    for j in range(5):
        assert valid[j] == (start + j < 7)
        np.testing.assert_array_equal(chunk[j], actions[start + j] if start + j < 7 else 0)


@pytest.mark.parametrize("start", [0, 3, 5])
def test_action_sum_against_a_loop(start):
    actions = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    steps, delta = (1, 2, 4), (True, False, True)
    window = keyframe_window(start, steps, len(actions), hz=5.0)
    found = action_sum(actions, window, delta)
    for k, ahead in enumerate(steps):
        for m in range(3):
            expected = 0.0
            if start + ahead < 8:
                expected = actions[start + ahead, m] - actions[start, m]
                if delta[m]:
                    expected = sum(actions[start + i, m] for i in range(ahead))
            assert found[k, m] == pytest.approx(expected, abs=1e-6)


def test_the_last_action_never_enters_a_sum():
    actions = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    window = keyframe_window(2, (1, 3), 6, hz=5.0)
    changed = actions.copy()
    changed[5] = 1e6
    np.testing.assert_array_equal(
        action_sum(actions, window, (True, True)), action_sum(changed, window, (True, True))
    )


def test_gripper_gets_our_polarity_and_nothing_else_changes():
    spec = ActionSpec(
        names=("x", "gripper", "change"), units=("m", "1", "1"), groups=("translation", "gripper", "gripper"),
        delta=(True, False, True), frame="base", rotation="none", hz=5.0,
        gripper_open=-1.0, gripper_closed=1.0,
    )  # fmt: skip
    found = oriented(np.array([[0.3, -1.0, 0.0], [0.4, 1.0, 2.0]], np.float32), spec)
    np.testing.assert_allclose(found, [[0.3, 1.0, 0.0], [0.4, 0.0, -1.0]], rtol=1e-6)
    bridge = np.random.default_rng(0).normal(size=(4, 7)).astype(np.float32)
    np.testing.assert_array_equal(oriented(bridge, BRIDGE_DATASET.spec.action), bridge)
    np.testing.assert_allclose(as_stored(found, spec), [[0.3, -1.0, 0.0], [0.4, 1.0, 2.0]], rtol=1e-6)
