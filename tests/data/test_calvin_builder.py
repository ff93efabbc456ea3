"""CALVIN's files become the episodes that they hold."""

import dataclasses

import numpy as np
import pytest

from data_pipelines.builders import calvin
from data_pipelines.dataset import find_datasets, open_split
from data_pipelines.errors import DatasetError
from data_pipelines.stream import open_stream
from data_pipelines.validate import validate

SEGMENTS = {"training": ((10, 29), (35, 60)), "validation": ((5, 20),)}
WINDOWS = {
    "training": (((12, 25), "open the drawer"), ((35, 48), "push it"), ((40, 60), "lift it")),
    "validation": (((6, 20), "open it"),),
}


def step(number, split="training"):
    """One step's file; pictures coarse, so that lossless ones are small."""
    rng = np.random.default_rng([number, split == "training"])
    grip = 1.0 if number % 12 < 6 else -1.0
    depth = rng.uniform(0.2, 3.0, (20, 20)).astype(np.float32)
    depth[0, :2] = 0.0, np.inf
    return {
        "rel_actions": np.array([*rng.uniform(-1, 1, 6), grip]),
        "actions": rng.normal(size=7),
        "robot_obs": np.array([*rng.normal(size=14), grip]),
        "scene_obs": rng.normal(size=24),
        "rgb_static": rng.integers(0, 256, (20, 20, 3), np.uint8),
        "rgb_gripper": rng.integers(0, 256, (8, 8, 3), np.uint8),
        "depth_static": depth,
        "depth_gripper": rng.uniform(0.1, 1.0, (8, 8)).astype(np.float32),
    }


def write_calvin(root, windows=WINDOWS, segments=SEGMENTS, drop=()):
    for split, of in segments.items():
        folder = root / split
        (folder / "lang_annotations").mkdir(parents=True)
        np.save(folder / "ep_start_end_ids.npy", np.array(of))
        for first, last in of:
            for number in range(first, last + 1):
                values = {key: value for key, value in step(number, split).items() if key not in drop}
                np.savez(folder / f"episode_{number:07d}.npz", **values)
        annotations = {
            "language": {
                "ann": [text for _, text in windows[split]],
                "task": [f"task {number}" for number, _ in enumerate(windows[split])],
                "emb": np.zeros((len(windows[split]), 1, 384), np.float32),
            },
            "info": {"indx": [ends for ends, _ in windows[split]], "episodes": []},
        }
        np.save(folder / "lang_annotations" / "auto_lang_ann.npy", np.array(annotations, dtype=object))
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("calvin")
    write_calvin(folder / "files")
    calvin.main([str(folder / "files"), str(folder / "data"), "--name", "calvin_d"])
    return folder


def check_steps(episode, numbers, split):
    steps = [step(number, split) for number in numbers]
    assert episode.num_steps == len(steps)
    scaled = np.stack([s["rel_actions"] for s in steps]) / ([50] * 3 + [20] * 3 + [1])
    np.testing.assert_allclose(episode.actions, scaled, rtol=1e-6)
    np.testing.assert_allclose(episode.states, np.stack([s["robot_obs"] for s in steps]), rtol=1e-6)
    for k, s in enumerate(steps):
        np.testing.assert_array_equal(episode.rgb(k), s["rgb_static"])
        np.testing.assert_array_equal(episode.rgb(k, "wrist"), s["rgb_gripper"])
        expected = np.where(np.isfinite(s["depth_static"]), s["depth_static"], 0)
        np.testing.assert_allclose(episode.depth(k) * calvin.DEPTH_UNIT_M, expected, atol=5e-4)
        np.testing.assert_allclose(episode.depth(k, "wrist") * 1e-3, s["depth_gripper"], atol=5e-4)


def test_each_window_is_an_episode(root):
    for name, split in (("train", "training"), ("val", "validation")):
        written = open_split(root / "data", "calvin_d", name)
        assert written.num_episodes == len(WINDOWS[split])
        for episode, ((first, last), text) in zip(written.episodes(), WINDOWS[split], strict=True):
            assert episode.instruction.decode() == text
            assert episode.metadata == {
                "task": f"task {episode.index}".encode(), "first": first, "last": last,
            }  # fmt: skip
            check_steps(episode, range(first, last + 1), split)


def test_conventions_reach_the_batch(root):
    """A gripper that opens is 1 for us; depth is read in metres."""
    data = {"dir": str(root / "data"), "mixture": "calvin_d", "split": "train", "resolution": 20}
    stream = open_stream(data | {"offsets_s": (0.1,), "action_horizon": 1}, batch_size=4, seed=0)
    batch = stream.batch(0)
    spec = stream.specs["calvin_d"]
    assert (spec.hz, spec.action.frame, spec.action.units[:4]) == (30.0, "world", ("m", "m", "m", "rad"))
    for row in range(4):
        first = WINDOWS["training"][batch["episode"][row]][0][0]
        stored = step(first + batch["step"][row])
        assert batch["action"][row, 0, 6] == (1.0 if stored["rel_actions"][6] > 0 else 0.0)
        metres = np.exp(
            batch["depth"][row, 0, ..., 0] * batch["depth_scale"][row] + batch["depth_center"][row]
        )
        valid = batch["depth_valid"][row, 0, ..., 0]
        assert not valid[0, :2].any() and valid[1:].all()
        np.testing.assert_allclose(metres[valid], stored["depth_static"][valid], atol=1e-3)
    (place,) = find_datasets(root / "data" / "calvin_d")
    assert validate(place).of("error") == []


def test_play_is_cut_at_the_ends_of_segments(root, monkeypatch):
    monkeypatch.setattr(calvin, "PIECE", 12)
    assert calvin.pieces(root / "files" / "training", 12) == [
        calvin.Window(10, 21), calvin.Window(22, 29), calvin.Window(35, 46), calvin.Window(47, 58),
        calvin.Window(59, 60),
    ]  # fmt: skip
    calvin.main([str(root / "files"), str(root / "data"), "--name", "play", "--play"])
    written = open_split(root / "data", "play", "val")
    assert not written.spec.language_key and [e.num_steps for e in written.episodes()] == [16]
    check_steps(written.episode(0), range(5, 21), "validation")


def test_without_depth(tmp_path):
    small = {"training": ((10, 14),)}
    windows = {"training": (((10, 14), "go"),)}
    write_calvin(tmp_path / "files", windows, small, drop=("depth_static", "depth_gripper"))
    calvin.main([str(tmp_path / "files"), str(tmp_path / "data")])
    split = open_split(tmp_path / "data", "calvin", "train")
    assert not any(camera.depth_key for camera in split.spec.cameras)
    without = dataclasses.replace(split.spec, cameras=calvin.dataset_spec("calvin").cameras)
    assert without == calvin.dataset_spec("calvin")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"windows": {"training": (((25, 36), "across"),)}}, "window 25 to 36 lies in none of 2 segments"),
        ({"windows": {"training": (((50, 61), "past"),)}}, "window 50 to 61 lies in none of 2 segments"),
        ({"segments": {"training": ((10, 29), (29, 40))}}, "segment 10 to 29, expected to end"),
    ],
)
def test_windows_and_segments_that_cannot_be_are_named(tmp_path, change, match):
    values = {"windows": {"training": WINDOWS["training"]}, "segments": {"training": SEGMENTS["training"]}}
    write_calvin(tmp_path, **{**values, **change})
    with pytest.raises(DatasetError, match=match):
        calvin.main([str(tmp_path), str(tmp_path / "data")])


def test_a_missing_step_is_named(tmp_path):
    write_calvin(tmp_path, {"training": (((10, 14), "go"),)}, {"training": ((10, 14),)})
    (tmp_path / "training" / "episode_0000012.npz").unlink()
    with pytest.raises(DatasetError, match="episode_0000012.npz: cannot be read"):
        calvin.main([str(tmp_path), str(tmp_path / "data")])
    with pytest.raises(DatasetError, match=r"expected folders \['training', 'validation'\]"):
        calvin.main([str(tmp_path / "training"), str(tmp_path / "data")])
