"""Recording an episode, on an environment whose every number is known."""

import numpy as np
import pytest
from line_environment import Line

from farsighted_jax.rollout import recording
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.recording import Options


def test_an_episode_ends_shortly_after_success_and_actions_follow_frames():
    episode = recording.record(Line(), "go", "train", 3, Options(settle_steps=2))
    assert (episode["seed"], episode["success"], episode["tries"]) == (3, True, 1)
    # 3, 4, ..., 9: the seventh action succeeds, two more steps follow.
    np.testing.assert_array_equal(episode["state"][:, 0], np.arange(3, 12))
    assert episode["action"].shape == (9, 4) and episode["rgb/primary"].shape == (9, 4, 4, 3)
    moved = 2 * episode["action"][:-1, 0]
    np.testing.assert_allclose(np.diff(episode["state"][:, 0]), moved)


def test_a_length_is_kept_whatever_happens():
    episode = recording.record(Line(), "go", "train", 0, Options(num_steps=15))
    assert len(episode["action"]) == 15 and episode["success"]


def test_a_length_that_the_environment_does_not_have_is_an_error():
    with pytest.raises(RolloutError, match="line: episodes of 41 steps, expected at most 40"):
        recording.record(Line(), "go", "train", 0, Options(num_steps=41))


def test_noise_is_on_the_translation_alone_and_comes_from_the_seed():
    first, again, other = (
        recording.record(Line(), "go", "train", index, Options(noise=0.3, num_steps=9)) for index in (1, 1, 2)
    )
    np.testing.assert_array_equal(first["action"], again["action"])
    assert not np.array_equal(first["action"], other["action"])
    assert np.abs(first["action"]).max() <= 1 and (first["action"][:, 3] == 1).all()
    assert (first["action"][:, :3].std(axis=0) > 0.1).all()


def test_a_seed_that_fails_is_replaced_and_told():
    episode = recording.record(Line(stuck={3}), "go", "train", 3, Options())
    assert (episode["seed"], episode["tries"]) == (3 + recording.RETRY, 2)


def test_a_failure_can_be_kept():
    episode = recording.record(Line(stuck={3}), "go", "train", 3, Options(keep_failures=True))
    assert (episode["seed"], episode["success"], len(episode["action"])) == (3, False, Line.max_steps)


def test_an_expert_that_always_fails_is_an_error():
    stuck = {1_000_002 + n * recording.RETRY for n in range(recording.MAX_TRIES)}
    with pytest.raises(RolloutError, match="task 'go': the expert failed with 10 seeds"):
        recording.record(Line(stuck), "go", "val", 2, Options())


def test_seeds_of_the_uses_never_meet():
    most = recording.RETRY * recording.MAX_TRIES
    first = sorted(recording.FIRST_SEED.values())
    assert all(after - before >= most for before, after in zip(first, first[1:], strict=False))


def test_a_file_keeps_depth_in_units_and_0_where_nothing_was_measured(tmp_path):
    episode = recording.record(Line(), "go", "train", 3, Options())
    recording.write_episode(tmp_path / "e.npz", episode, 0.001)
    assert [path.name for path in tmp_path.iterdir()] == ["e.npz"]
    with np.load(tmp_path / "e.npz", allow_pickle=False) as file:
        depth = file["depth/primary"]
        assert depth.dtype == np.uint16 and (depth[:, 0, 0] == 0).all()
        np.testing.assert_array_equal(depth[:, 1, 1], 1000 * np.arange(3, 3 + len(depth)))
        np.testing.assert_array_equal(file["action"], episode["action"])
