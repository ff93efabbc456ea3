"""The procedural scenes: what is said of their motion, depth and textures is so."""

import json
import subprocess
import sys

import numpy as np
import pytest

from data_pipelines import synthetic
from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream


@pytest.fixture(scope="module")
def hard():
    return [synthetic.render_episode("hard", split, 0, i) for split in ("train", "val") for i in range(4)]


def orange_center(rgb_HWC):
    """Centre of the actor's colour, (x, y) in pixels."""
    r, g, b = (rgb_HWC[..., i].astype(float) for i in range(3))
    weight = np.clip(np.minimum(r - 1.25 * g, r - 2.2 * b) - 20, 0, None)
    y, x = np.mgrid[: len(rgb_HWC), : len(rgb_HWC)] + 0.5
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def test_frames_are_a_function_of_their_arguments():
    first, again = (synthetic.render_episode("easy", "train", 3, 5) for _ in range(2))
    np.testing.assert_array_equal(first.rgb_THWC, again.rgb_THWC)
    for other in (("easy", "train", 3, 6), ("easy", "train", 4, 5), ("easy", "val", 3, 5)):
        assert not np.array_equal(first.rgb_THWC, synthetic.render_episode(*other).rgb_THWC)


def test_the_action_is_the_displacement_of_the_actor(hard):
    for episode in hard:
        np.testing.assert_allclose(np.diff(episode.position_TM, axis=0), episode.action_TM[:-1], atol=1e-4)
        assert np.abs(episode.action_TM).max() <= 6


def test_the_pixels_move_by_action_and_shake():
    """With the disturbances in the way the colour centre is rough, without them exact."""
    episode = synthetic.render_episode("easy", "train", 0, 1)
    centers = np.array([orange_center(frame) for frame in episode.rgb_THWC])
    visible = np.abs(centers - episode.position_TM).max(axis=1) < 1.0
    assert visible.mean() > 0.5
    both = visible[1:] & visible[:-1]
    np.testing.assert_allclose(np.diff(centers, axis=0)[both], episode.action_TM[:-1][both], atol=1.0)


def test_level_hard_is_as_hard_as_it_says(hard):
    level = synthetic.LEVELS["hard"]
    assert (level.resolution, level.max_speed, level.max_shake) == (64, 6.0, 3.0)
    assert level.num_objects >= 3
    actions = np.concatenate([e.action_TM for e in hard])
    assert np.abs(actions).max() > 5.5
    shake = np.concatenate([e.shake_TM for e in hard])
    assert 2.5 < np.abs(shake).max() <= 3.0
    other = np.concatenate([np.diff(e.distractor_TM, axis=0) for e in hard])
    mine = np.concatenate([e.action_TM[:-1] for e in hard])
    assert np.abs(other).max() > 5
    assert abs(np.corrcoef(other[:, 0], mine[:, 0])[0, 1]) < 0.3


def test_nearer_shapes_hide_farther_ones(hard):
    hidden = 0
    for episode in hard:
        for rgb, depth, position, shake in zip(
            episode.rgb_THWC, episode.depth_THW, episode.position_TM, episode.shake_TM, strict=True
        ):
            x, y = np.clip((position + shake).astype(int), 0, 63)
            if depth[y, x] < synthetic.ACTOR_DEPTH_M - 0.01:
                hidden += 1
                assert not (rgb[y, x, 0] > 240 and rgb[y, x, 2] < 90)
    assert hidden >= 3


def test_val_textures_belong_to_families_that_train_never_shows():
    train, val = (set(synthetic.TEXTURE_FAMILIES[split]) for split in ("train", "val"))
    assert train and val and not train & val


def test_unknown_level_is_refused_with_those_that_exist():
    with pytest.raises(ValueError, match="easy.*hard"):
        synthetic.render_episode("harder", "train", 0, 0)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A dataset written by a process of its own, as TFDS may bring TensorFlow into it."""
    folder = tmp_path_factory.mktemp("data")
    command = "-m data_pipelines.builders.synthetic --level easy --train 6 --val 2".split()
    subprocess.run([sys.executable, *command, str(folder)], check=True, capture_output=True, timeout=120)
    return folder


def test_written_rlds_reads_back_as_rendered(written):
    split = open_split(written, "synthetic_easy", "val")
    assert split.num_episodes == 2
    want = synthetic.render_episode("easy", "val", 0, 1)
    episode = split.episode(1)
    np.testing.assert_array_equal(episode.actions, want.action_TM)
    np.testing.assert_allclose(episode.depth(3) * 0.001, want.depth_THW[3], atol=6e-4)
    assert episode.instruction.decode() == synthetic.instruction("easy", 1)


def test_true_motion_follows_the_windows_of_a_batch(written):
    from data_pipelines.builders.synthetic import true_motion

    config = {
        "dir": str(written),
        "mixture": "synthetic_easy",
        "split": "train",
        "resolution": 32,
        "offsets_s": (0.2, 0.6),
    }
    stream = open_stream(config, batch_size=16, seed=0)
    batch = stream.batch(0)
    assert batch["depth_valid"].any()
    motion = true_motion(written / "synthetic_easy" / "1.0.0", "train")(batch)
    valid = batch["action_sum_valid"]
    np.testing.assert_allclose(motion[valid], batch["action_sum"][valid], atol=1e-4)
    assert valid.any(axis=0).all()


def test_other_data_in_the_folder_are_refused(written):
    from data_pipelines.builders.synthetic import write_dataset

    recipe = json.loads((written / "synthetic_easy" / "1.0.0" / "recipe.json").read_text())
    assert recipe["num_train"] == 6
    write_dataset(written, "easy", num_train=6, num_val=2)
    with pytest.raises(ValueError, match="holds other data.*num_train"):
        write_dataset(written, "easy", num_train=7, num_val=2)


def test_video_has_no_actions_and_episodes_may_be_longer_than_the_levels(tmp_path):
    from data_pipelines.builders import synthetic as builder

    options = {"num_train": 2, "num_val": 1, "name": "films", "video": True, "num_steps": 20}
    folder = builder.write_dataset(tmp_path, "circle", **options)
    assert folder == tmp_path / "films" / "1.0.0"
    split = open_split(tmp_path, "films", "train")
    assert split.spec.action is None and split.spec.name == "films"
    want = synthetic.render_episode("circle", "train", 0, 1, 20)
    assert len(want.rgb_THWC) == 20
    np.testing.assert_array_equal(split.episode(1).rgb(19), want.rgb_THWC[19])
    with pytest.raises(ValueError, match="holds other data"):
        builder.write_dataset(tmp_path, "circle", **options | {"video": False})
