"""LIBERO's files become the episodes that they hold."""

import json

import numpy as np
import pytest

from data_pipelines.builders import libero
from data_pipelines.dataset import open_split
from data_pipelines.errors import DatasetError
from data_pipelines.stream import open_stream
from farsighted_jax.rollout.libero import dataset_spec as simulated_spec

h5py = pytest.importorskip("h5py", reason="extra `hdf5`")

TASKS = ("pick_up_the_bowl", "open_the_drawer")
NUM, LENGTH = 11, 7


def demo(task, number):
    rng = np.random.default_rng([TASKS.index(task), number])
    rgb = rng.integers(0, 256, (2, LENGTH, 8, 8, 3), np.uint8)
    actions = rng.uniform(-1, 1, (LENGTH, 7))
    actions[:, 6] = np.where(np.arange(LENGTH) < 4, -1, 1)
    return {
        "actions": actions, "dones": np.arange(LENGTH) == LENGTH - 1, "obs/agentview_rgb": rgb[0],
        "obs/eye_in_hand_rgb": rgb[1], "obs/ee_states": rng.normal(size=(LENGTH, 6)),
        "obs/gripper_states": rng.normal(size=(LENGTH, 2)), "obs/joint_states": rng.normal(size=(LENGTH, 7)),
    }  # fmt: skip


def write_libero(folder, num=NUM, edit=lambda file: None):
    folder.mkdir(parents=True)
    for task in TASKS:
        with h5py.File(folder / f"{task}_demo.hdf5", "w") as file:
            data = file.create_group("data")
            data.attrs["problem_info"] = json.dumps({"language_instruction": task.replace("_", " ")})
            for number in range(num):
                for key, value in demo(task, number).items():
                    data.create_dataset(f"demo_{number}/{key}", data=value)
            edit(file)
    return folder


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("libero")
    write_libero(folder / "files")
    libero.main([str(folder / "files"), str(folder / "data"), "--name", "libero_goal"])
    return folder


def test_each_demonstration_is_an_episode(root):
    train, val = (open_split(root / "data", "libero_goal", split) for split in ("train", "val"))
    order = [(task, number) for task in sorted(TASKS) for number in (*range(9), 10)]
    assert (train.num_episodes, val.num_episodes) == (20, 2)
    for episode, (task, number) in [
        *zip(train.episodes(), order, strict=True),
        *zip(val.episodes(), [(task, 9) for task in sorted(TASKS)], strict=True),
    ]:
        stored = demo(task, number)
        assert episode.instruction.decode() == task.replace("_", " ")
        assert episode.metadata == {"task": task.encode(), "demonstration": f"demo_{number}".encode()}
        np.testing.assert_allclose(episode.actions, stored["actions"], rtol=1e-6)
        states = np.concatenate([stored["obs/ee_states"], stored["obs/gripper_states"]], axis=1)
        np.testing.assert_allclose(episode.states, states, rtol=1e-6)
        for step in (0, LENGTH - 1):
            np.testing.assert_array_equal(episode.rgb(step), stored["obs/agentview_rgb"][step])
            np.testing.assert_array_equal(episode.rgb(step, "wrist"), stored["obs/eye_in_hand_rgb"][step])


def test_pictures_are_turned_and_the_gripper_is_ours_in_a_batch(root):
    data = {"dir": str(root / "data"), "mixture": "libero_goal", "split": "val", "resolution": 8}
    stream = open_stream(
        data | {"offsets_s": (0.05,), "action_horizon": 1}, batch_size=4, seed=0, train=False
    )
    batch = stream.batch(0)
    for row in range(4):
        stored, step = demo(sorted(TASKS)[batch["episode"][row]], 9), batch["step"][row]
        np.testing.assert_array_equal(batch["rgb"][row, 0], stored["obs/agentview_rgb"][step][::-1, ::-1])
        assert batch["action"][row, 0, 6] == (1.0 if stored["actions"][step, 6] < 0 else 0.0)


def test_it_says_of_actions_and_states_what_the_simulator_does():
    built, simulated = libero.dataset_spec("x"), simulated_spec("x")
    assert (built.action, built.state_names, built.hz) == (
        simulated.action, simulated.state_names, simulated.hz,
    )  # fmt: skip


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(DatasetError, match=r"no file \*_demo.hdf5"):
        libero.main([str(tmp_path), str(tmp_path / "data"), "--name", "x"])

    def without_state(file):
        del file["data/demo_1/obs/ee_states"]

    write_libero(tmp_path / "a", 2, without_state)
    with pytest.raises(DatasetError, match=r"open_the_drawer_demo.hdf5: demo_1 lacks \['obs/ee_states'\]"):
        libero.main([str(tmp_path / "a"), str(tmp_path / "data"), "--name", "x"])

    def without_text(file):
        del file["data"].attrs["problem_info"]

    write_libero(tmp_path / "b", 1, without_text)
    with pytest.raises(DatasetError, match="no language_instruction in 'problem_info'"):
        libero.main([str(tmp_path / "b"), str(tmp_path / "other"), "--name", "x"])
    (tmp_path / "b" / "open_the_drawer_demo.hdf5").write_bytes(b"nothing")
    with pytest.raises(DatasetError, match="open_the_drawer_demo.hdf5: cannot be read as HDF5"):
        libero.main([str(tmp_path / "b"), str(tmp_path / "other"), "--name", "x"])
