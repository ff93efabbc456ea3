"""The clip before augmentation, beside the augmented one."""

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.stream import open_stream
from farsighted_jax.core.batch import check

AUGMENTED = {"augment": True, "shift": 0.3, "jitter": 0.3}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds")
    write_rlds(folder, "deep", depth="png")
    write_rlds(folder, "flat")
    return folder


def opened(root, train=True, **changes):
    data = {
        "dir": str(root),
        "mixture": "deep,flat",
        "split": "train",
        "resolution": 8,
        "offsets_s": (0.2, 0.4),
    }
    return open_stream(data | {"plain_clip": True} | changes, batch_size=8, seed=3, train=train)


@pytest.mark.parametrize("depth_noise", [0.0, 0.1])
def test_it_is_the_clip_of_a_stream_that_changes_nothing(root, depth_noise):
    batch = opened(root, depth_noise=depth_noise, **AUGMENTED).batch(1)
    plain = opened(root, depth_noise=depth_noise).batch(1)
    check(batch, values=True)
    assert batch.keys() - plain.keys() == {"plain_rgb", "plain_depth", "plain_depth_valid"}
    for name in ("rgb", "depth", "depth_valid"):
        np.testing.assert_array_equal(batch[f"plain_{name}"], plain[name])
        assert (batch[name] != plain[name]).any()
    assert not batch["frame_valid"].all() and not batch["plain_rgb"][~batch["frame_valid"]].any()


def test_it_leaves_the_rest_of_the_batch_alone(root):
    batch, without = opened(root, **AUGMENTED).batch(1), opened(root, plain_clip=False, **AUGMENTED).batch(1)
    for name in without:
        np.testing.assert_array_equal(batch[name], without[name], err_msg=name)


def test_where_nothing_is_changed_there_is_none(root):
    for options in ({}, {"augment": True}, {"train": False} | AUGMENTED, {"plain_clip": False} | AUGMENTED):
        assert "plain_rgb" not in opened(root, **options).batch(0)
    assert "plain_depth" not in opened(root, depth="off", **AUGMENTED).batch(0)


def test_an_epoch_of_a_training_stream_has_it_too(root):
    for batch in opened(root, **AUGMENTED).epoch(readers=1, prefetch=1):
        np.testing.assert_array_equal(batch["plain_rgb"], batch["rgb"])
