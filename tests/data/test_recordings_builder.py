"""Recorded episodes become RLDS that the reader, and TFDS itself, give back."""

import json

import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders import recordings
from data_pipelines.errors import DatasetError
from farsighted_jax.rollout.metaworld import dataset_spec

SPEC = dataset_spec("recorded", ("primary", "wrist"))


def episode_file(path, num_steps, seed=0, without=()):
    rng = np.random.default_rng(seed)
    arrays = {
        "state": rng.standard_normal((num_steps, 4)).astype(np.float32),
        "action": rng.uniform(-1, 1, (num_steps, 4)).astype(np.float32),
        "instructions": np.array(["open it", "pull it open"]),
        "task": "drawer-open",
        "seed": seed,
        "success": True,
    }
    for camera in ("primary", "wrist"):
        arrays[f"rgb/{camera}"] = rng.integers(0, 256, (num_steps, 8, 8, 3), np.uint8)
        arrays[f"depth/{camera}"] = rng.integers(0, 3000, (num_steps, 8, 8)).astype(np.uint16)
    np.savez(path, **{key: value for key, value in arrays.items() if key not in without})
    return arrays


@pytest.fixture
def episodes(tmp_path):
    paths = [tmp_path / f"{n}.npz" for n in range(3)]
    return paths, [episode_file(path, 5 + n, seed=n) for n, path in enumerate(paths)]


def test_what_was_recorded_is_what_tfds_reads(tmp_path, episodes):
    paths, arrays = episodes
    folder = recordings.write_dataset(tmp_path, SPEC, {"train": paths[:2], "val": paths[2:]}, {"why": "test"})
    assert recordings.written_recipe(folder) == {"why": "test"}
    assert json.loads((folder / "dataset_spec.json").read_text())["hz"] == 80
    source = tfds.builder_from_directory(str(folder)).as_data_source("train")
    assert len(source) == 2
    for episode, expected, said in zip(source, arrays, ("open it", "pull it open"), strict=False):
        steps = list(episode["steps"])
        assert len(steps) == len(expected["state"])
        for name, role in (("image", "rgb/primary"), ("wrist_image", "rgb/wrist")):
            found = np.stack([step["observation"][name] for step in steps])
            np.testing.assert_array_equal(found, expected[role])
        depth = np.stack([step["observation"]["wrist_depth"][..., 0] for step in steps])
        np.testing.assert_array_equal(depth, expected["depth/wrist"])
        np.testing.assert_array_equal(np.stack([step["action"] for step in steps]), expected["action"])
        assert {step["language_instruction"].decode() for step in steps} == {said}
        assert [bool(step["is_last"]) for step in steps] == [False] * (len(steps) - 1) + [True]
        assert episode["episode_metadata"]["task"].decode() == "drawer-open"


def test_action_free_video_has_no_action(tmp_path, episodes):
    paths, _ = episodes
    spec = dataset_spec("recorded_video", ("primary",), actions=False)
    folder = recordings.write_dataset(tmp_path, spec, {"train": paths[:2], "val": paths[2:]}, {})
    (step, *_) = next(iter(tfds.builder_from_directory(str(folder)).as_data_source("val")))["steps"]
    assert "action" not in step and set(step["observation"]) == {"image", "depth", "state"}


def test_a_file_that_lacks_something_is_named(tmp_path):
    episode_file(tmp_path / "bad.npz", 4, without=("depth/wrist", "seed"))
    with pytest.raises(DatasetError, match=r"bad\.npz: \['depth/wrist', 'seed'\] missing"):
        recordings.write_dataset(tmp_path, SPEC, {"train": [tmp_path / "bad.npz"]}, {})


def test_a_split_without_episodes_is_an_error(tmp_path, episodes):
    with pytest.raises(DatasetError, match=r"no episodes for split\(s\) \['val'\]"):
        recordings.write_dataset(tmp_path, SPEC, {"train": episodes[0], "val": []}, {})


def test_an_unknown_file_format_is_an_error(tmp_path, episodes):
    with pytest.raises(DatasetError, match="file format 'csv'"):
        recordings.write_dataset(tmp_path, SPEC, {"train": episodes[0]}, {}, "csv")
