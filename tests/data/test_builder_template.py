"""The builder's template and its README, as they stand, on toy recordings."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow_datasets as tfds

from data_pipelines.builders import episodes as episodes_lib
from data_pipelines.builders import template
from data_pipelines.dataset import find_datasets, open_split
from data_pipelines.errors import DatasetError
from data_pipelines.validate import validate

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "data_pipelines" / "builders" / "README.md"
NUM, LENGTH, SIZE = 12, 15, 32


def picture(place, number):
    """A dot where the hand is, on a ground of its own."""
    image = np.random.default_rng(number).integers(60, 120, (SIZE, SIZE, 3), np.uint8)
    cv2.circle(image, (int(16 + 60 * place[0]), int(16 + 60 * place[1])), 4, (40, 220, 240), -1)
    return image


def write_recordings(folder, num=NUM):
    for number in range(num):
        rng = np.random.default_rng(number)
        moves = np.cumsum(rng.normal(0, 0.004, (LENGTH + 1, 3)), axis=0).clip(-0.02, 0.02)
        places = np.cumsum(moves, axis=0)
        close_at = int(rng.integers(4, 11))
        path = folder / f"{number:03d}"
        (path / "frames").mkdir(parents=True)
        (path / "task.txt").write_text(f"touch object {number % 3}\n")
        with open(path / "steps.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["x", "y", "z", "gripper", "dx", "dy", "dz", "command"])
            for step in range(LENGTH):
                state = [*places[step], 1.0 if step <= close_at else 0.1]
                writer.writerow([*state, *moves[step + 1], float(step < close_at)])
                cv2.imwrite(str(path / "frames" / f"{step}.png"), picture(places[step], number))
    return folder


def write(tmp_path, **changes):
    splits = template.recordings(write_recordings(tmp_path / "files"))
    read = {name: episodes_lib.Recordings(paths, template.episodes) for name, paths in splits.items()}
    return episodes_lib.write_dataset(tmp_path / "data", template.SPEC, read, **changes)


def test_the_template_writes_what_it_read_and_the_validator_finds_nothing(tmp_path):
    folder = write(tmp_path)
    split = open_split(tmp_path / "data", "my_robot", "train")
    assert (split.num_episodes, open_split(tmp_path / "data", "my_robot", "val").num_episodes) == (11, 1)
    expected = template.episode(tmp_path / "files" / "003")
    episode = split.episode(3)
    np.testing.assert_array_equal(episode.actions, expected["action"])
    np.testing.assert_array_equal(episode.states, expected["state"])
    assert episode.instruction == b"touch object 0"
    # Pictures are stored as they were encoded.
    assert [episode.rgb_bytes(step) for step in range(LENGTH)] == expected["rgb/primary"]
    step = next(iter(next(iter(tfds.builder_from_directory(str(folder)).as_data_source("val")))["steps"]))
    assert step["observation"]["image"].shape == (SIZE, SIZE, 3)
    # One held-out episode of 15 steps is too little to compare grippers.
    report = validate(*find_datasets(tmp_path / "data"))
    assert [str(f) for f in report.findings if f.severity != "note"] == []


def test_a_second_call_says_that_the_dataset_is_there(tmp_path):
    folder = write(tmp_path)
    with pytest.raises(DatasetError, match=f"{re.escape(str(folder))} is there already"):
        episodes_lib.write_dataset(tmp_path / "data", template.SPEC, {})


def bad(**values):
    good = {
        "rgb/primary": np.zeros((3, 8, 8, 3), np.uint8),
        "state": np.zeros((3, 4)),
        "action": np.zeros((3, 4)),
    }
    return good | {"instruction": "go"} | values


@pytest.mark.parametrize(
    ("episode", "match"),
    [
        ({"rgb/primary": []}, r"\['action', 'instruction', 'state'\] missing; it has \['rgb/primary'\]"),
        (bad(action=np.zeros((2, 4))), r"lengths differ: \{'action': 2, 'rgb/primary': 3, 'state': 3\}"),
        (bad(action=np.zeros((3, 7))), r"'action' has shape \(3, 7\), expected \(steps, 4\)"),
        (bad(**{"rgb/primary": [b"no picture"] * 3}), "the first picture cannot be decoded: 10 bytes"),
    ],
)
def test_a_wrong_episode_is_named_with_what_was_expected(tmp_path, episode, match):
    with pytest.raises(DatasetError, match=match):
        episodes_lib.write_dataset(tmp_path, template.SPEC, {"train": lambda: [episode]})


def test_a_later_episode_is_named_by_its_number(tmp_path):
    with pytest.raises(DatasetError, match="my_robot:train, episode 1: .*lengths differ"):
        episodes_lib.write_dataset(
            tmp_path, template.SPEC, {"train": lambda: [bad(), bad(state=np.zeros((9, 4)))]}
        )


def test_no_recordings(tmp_path):
    with pytest.raises(DatasetError, match="'my_robot': no recordings for any split"):
        episodes_lib.write_dataset(tmp_path, template.SPEC, {})
    with pytest.raises(DatasetError, match=r"no episodes for split\(s\) \['train'\]"):
        episodes_lib.write_dataset(tmp_path, template.SPEC, {"train": lambda: []})


@pytest.mark.slow
def test_the_four_steps_of_the_readme_lead_to_a_trained_model(tmp_path):
    """Every command of the README, literally, in a copy of the repository's root."""
    blocks = re.findall(r"```bash\n(.+?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 4
    for name in ("data_pipelines", "farsighted_jax", "configs"):
        (tmp_path / name).symlink_to(ROOT / name)
    write_recordings(tmp_path / "files")
    # `farsighted` and `python` are those of this interpreter, whether or not the package is installed.
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, arguments in (("python", ""), ("farsighted", "-m farsighted_jax.cli.main ")):
        (commands / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}"$@"\n')
        (commands / name).chmod(0o755)
    environment = {**os.environ, "PATH": f"{commands}:{os.environ['PATH']}", "PYTHONPATH": str(tmp_path)}
    environment |= {name.upper(): str(tmp_path / name) for name in ("files", "data", "run")}
    said = ""
    for block in blocks:
        done = subprocess.run(
            ["bash", "-ec", block], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, done.stdout + done.stderr
        said += done.stdout
    assert "dataset: " in said and "my_robot: 0 error(s), 0 warning(s)" in said
    assert (tmp_path / "data" / "my_robot.html").stat().st_size > 50_000
    assert "saved step 20" in said and (tmp_path / "run" / "metrics.jsonl").exists()
