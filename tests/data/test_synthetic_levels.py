"""The levels that take texture and geometry apart, the long one, and the one that can be foreseen."""

import dataclasses

import cv2
import numpy as np
import pytest

from data_pipelines import synthetic


@pytest.fixture(scope="module")
def screens():
    return [synthetic.render_episode("screen", split, 0, i) for split in ("train", "val") for i in range(3)]


@pytest.fixture(scope="module")
def bare():
    return [synthetic.render_episode("bare", split, 0, i) for split in ("train", "val") for i in range(3)]


def still_camera(monkeypatch, level, index):
    """An episode of a level without camera shake."""
    steady = dataclasses.replace(synthetic.LEVELS[level], max_shake=0.0)
    monkeypatch.setitem(synthetic.LEVELS, level, steady)
    return synthetic.render_episode(level, "train", 0, index)


def test_the_picture_on_the_screen_moves_and_its_depth_does_not(monkeypatch):
    for index in range(3):
        episode = still_camera(monkeypatch, "screen", index)
        is_screen = np.abs(episode.depth_THW - synthetic.SCREEN_DEPTH_M) < 1e-6
        always = is_screen.all(axis=0)
        assert always.sum() > 200
        change_HW = np.ptp(episode.rgb_THWC.astype(int), axis=0).max(axis=-1)
        assert change_HW[always].mean() > 30
        # Of what does not move, nothing else changes; edges are painted half and are left out.
        moving = (np.ptp(episode.depth_THW, axis=0) > 0) | is_screen.any(axis=0)
        far = cv2.dilate(moving.astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
        assert far.sum() > 500 and change_HW[far].max() <= 1


def test_the_picture_moves_independently_of_the_actions(screens):
    picture = np.concatenate([np.diff(e.distractor_TM, axis=0) for e in screens])
    mine = np.concatenate([e.action_TM[:-1] for e in screens])
    assert np.abs(picture).max() > 5 and abs(np.corrcoef(picture[:, 0], mine[:, 0])[0, 1]) < 0.3


def test_bare_shapes_are_plain_in_depth_and_hardly_in_colour(bare):
    for episode in bare:
        for rgb_HWC, depth_HW, position, shake in zip(
            episode.rgb_THWC, episode.depth_THW, episode.position_TM, episode.shake_TM, strict=True
        ):
            x, y = np.floor(position + shake).astype(int)
            if depth_HW[y, x] != np.float32(synthetic.ACTOR_DEPTH_M):
                continue
            box = rgb_HWC[max(y - 5, 0) : y + 6, max(x - 5, 0) : x + 6].reshape(-1, 3).astype(int)
            depth = depth_HW[max(y - 5, 0) : y + 6, max(x - 5, 0) : x + 6].ravel()
            actor = box[depth == np.float32(synthetic.ACTOR_DEPTH_M)]
            assert np.ptp(actor, axis=0).max() <= 1
        middle = episode.rgb_THWC[0, 20:44, 20:44].reshape(-1, 3).astype(int)
        assert np.ptp(middle, axis=0).max() <= 0.06 * 255 + 1
        assert np.ptp(episode.depth_THW[0]) > 1


def test_a_long_episode_outlasts_eight_gaps_of_eight_frames(monkeypatch):
    level = synthetic.LEVELS["long"]
    assert level.num_steps >= 8 * 8 + 16
    monkeypatch.setitem(synthetic.LEVELS, "long", dataclasses.replace(level, resolution=32, actor_radius=4.0))
    episode = synthetic.render_episode("long", "train", 0, 0)
    far = episode.position_TM[64:] - episode.position_TM[:-64]
    near = episode.position_TM[8:] - episode.position_TM[:-8]
    assert len(episode.rgb_THWC) == 80 and np.abs(episode.action_TM).max() <= 3
    assert near.std() > 2 and far.std() > 2
    assert episode.position_TM.min() >= 4 and episode.position_TM.max() <= 28


def test_new_levels_use_no_random_number_of_the_old_ones(monkeypatch):
    """What all levels share is drawn first, so that a level changes nothing but what it is about."""
    hard = synthetic.render_episode("hard", "train", 0, 2)
    for level in ("screen", "bare"):
        other = synthetic.render_episode(level, "train", 0, 2)
        np.testing.assert_array_equal(hard.position_TM, other.position_TM)
        np.testing.assert_array_equal(hard.shake_TM, other.shake_TM)


def test_the_actor_circles_the_still_disc_as_the_instruction_says():
    words = set()
    for index in range(6):
        level = synthetic.LEVELS["circle"]
        episode = synthetic.render_episode("circle", "val", 0, index)
        assert np.ptp(episode.distractor_TM, axis=0).max() == 0
        offset_TM = episode.position_TM - episode.distractor_TM
        assert np.abs(np.hypot(*offset_TM.T) - level.orbit_radius).max() <= 2**0.5 * synthetic.WOBBLE + 1e-3
        (x, y), (later_x, later_y) = offset_TM[:-1].T, offset_TM[1:].T
        turned = x * later_y - y * later_x
        # With y down, what turns from x towards y turns clockwise.
        clockwise = synthetic.instruction("circle", index).endswith(" clockwise")
        assert (turned > 0).all() if clockwise else (turned < 0).all()
        np.testing.assert_allclose(
            episode.position_TM[:-1] + episode.action_TM[:-1], episode.position_TM[1:], atol=1e-4
        )
        words.add(synthetic.instruction("circle", index))
    assert words == {"circle the blue disc clockwise", "circle the blue disc counterclockwise"}


def test_neither_the_mean_nor_the_last_action_foresees_the_circle():
    episodes = [synthetic.render_episode("circle", "train", 0, index) for index in range(6)]
    action_ETM = np.stack([episode.action_TM for episode in episodes])
    size = np.abs(action_ETM).mean()
    assert np.abs(action_ETM - action_ETM.mean(axis=(0, 1))).mean() > 0.95 * size
    assert np.abs(action_ETM[:, 3:] - action_ETM[:, :-3]).mean() > 0.8 * size
    foreseen = np.hypot(*action_ETM.reshape(-1, 2).T)
    # What nobody can foresee is the wobble.
    assert foreseen.std() < 0.15 * foreseen.mean()
