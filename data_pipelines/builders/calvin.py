"""CALVIN's play data as RLDS: one file a step, segments of play, windows with instructions.

    python -m data_pipelines.builders.calvin task_D_D DATA --name calvin_d

An episode is a window that was annotated, with its instruction, or (`--play`) a piece of a segment without
one. Neither crosses the end of a segment, at which the scene was set anew. `auto_lang_ann.npy` is a pickle:
it is read as plain values, nothing in it is called (`inert_pickle`).

What the numbers mean, and who says so ("README": dataset/README.md of github.com/mees/calvin):

  actions    `rel_actions`, changes of the hand's place and Euler angles in the world times 50 and 20, clipped
             to [-1, 1] (README). Here divided by them again: metres and radians; what was clipped is lost.
             Angles are added, not turned by.
  gripper    +1 opens, -1 closes (README).
  state      `robot_obs`: place, Euler angles, opening in metres, seven joints, the gripper's last command
             (README).
  rate       30 Hz (`env.control_freq` of .hydra/merged_config.yaml beside the data).
  depth      metres along the optical axis: calvin_env converts PyBullet's buffer. Here in millimetres.
  windows    begin and end of segments and windows are both inside (readers of calvin_agent and calvin_env).
  cameras    `rgb_static` and `rgb_gripper`, upright: calvin_env stores PyBullet's pictures as they come, the
             highest row first (`project` of its cameras counts so), and its static camera's up vector points
             up; the hand's picture is as that camera is mounted.

Tactile images and the state of the scene's objects are left out.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.builders.episodes import Recordings, add_beam_flags, write_dataset
from data_pipelines.builders.inert_pickle import npy_object
from data_pipelines.builders.synthetic import png
from data_pipelines.errors import DatasetError
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec

SPLITS = {"train": "training", "val": "validation"}
HZ = 30.0
# What the recorded changes were multiplied by.
SCALES = np.array([50.0] * 3 + [20.0] * 3 + [1.0])
DEPTH_UNIT_M = 0.001
# Steps of a piece of play; a segment has thousands, which is too much for a record.
PIECE = 512
SOURCE = (
    "action, gripper, frame and state: dataset/README.md of github.com/mees/calvin; rate: "
    ".hydra/merged_config.yaml beside the data; depth, upright pictures: cameras of "
    "github.com/mees/calvin_env"
)
_ANGLES = ("roll", "pitch", "yaw")
_KEYS = ("rel_actions", "robot_obs", "rgb_static", "rgb_gripper")
_DEPTHS = ("depth_static", "depth_gripper")


class Window(NamedTuple):
    """Steps of a split that are an episode: both `first` and `last` belong to it."""

    first: int
    last: int
    instruction: str = ""
    task: str = ""


def dataset_spec(name: str, play: bool = False, depth: bool = True) -> DatasetSpec:
    """What the written numbers mean; see the module."""
    cameras = [
        CameraSpec(role, f"observation/{key}", f"observation/{key}_depth" if depth else "", DEPTH_UNIT_M)
        for role, key in (("primary", "image"), ("wrist", "wrist_image"))
    ]
    action = ActionSpec(
        names=("x", "y", "z", *_ANGLES, "gripper"),
        units=("m",) * 3 + ("rad",) * 3 + ("1",),
        groups=("translation",) * 3 + ("rotation",) * 3 + ("gripper",),
        delta=(True,) * 6 + (False,),
        frame="world",
        rotation="rpy",
        hz=HZ,
        gripper_open=1.0,
        gripper_closed=-1.0,
    )
    joints = (f"joint_{number}" for number in range(7))
    return DatasetSpec(
        name=name,
        hz=HZ,
        cameras=tuple(cameras),
        action=action,
        state_key="observation/state",
        state_names=("x", "y", "z", *_ANGLES, "gripper_width", *joints, "gripper"),
        language_key="" if play else "language_instruction",
        source=SOURCE,
    )


def segments(folder: Path) -> list[tuple[int, int]]:
    """First and last step of each segment of play in a split's folder, in order.

    Raises:
      DatasetError: `ep_start_end_ids.npy` cannot be read, or is no list of disjoint ranges; names it.
    """
    path = folder / "ep_start_end_ids.npy"
    try:
        ends_N2 = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    if ends_N2.ndim != 2 or ends_N2.shape[1] != 2 or ends_N2.dtype.kind not in "iu":
        raise DatasetError(f"{path}: {ends_N2.dtype}{list(ends_N2.shape)}, expected whole numbers [N, 2]")
    found = sorted((int(first), int(last)) for first, last in ends_N2)
    for (first, last), (after, _) in zip(found, [*found[1:], (float("inf"), 0)], strict=True):
        if not first <= last < after:
            raise DatasetError(
                f"{path}: segment {first} to {last}, expected to end after it begins, before the next"
            )
    return found


def annotated(folder: Path) -> list[Window]:
    """The windows of a split that have an instruction.

    Raises:
      DatasetError: the annotations cannot be read or are no lists of one length, or a window lies in no one
        segment; names file and window.
    """
    path = folder / "lang_annotations" / "auto_lang_ann.npy"
    values = npy_object(path)
    try:
        texts, tasks = values["language"]["ann"], values["language"]["task"]
        windows = [
            Window(*map(int, ends), str(text), str(task))
            for ends, text, task in zip(values["info"]["indx"], texts, tasks, strict=True)
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(
            f"{path}: expected language.ann, language.task and info.indx of one length: {error!r}"
        ) from error
    within = segments(folder)
    for window in windows:
        if not any(first <= window.first <= window.last <= last for first, last in within):
            raise DatasetError(
                f"{path}: the window {window.first} to {window.last} lies in none of {len(within)} segments"
            )
    return windows


def pieces(folder: Path, steps: int = PIECE) -> list[Window]:
    """The segments of a split, cut into pieces of at most so many steps."""
    return [
        Window(begin, min(begin + steps - 1, last))
        for first, last in segments(folder)
        for begin in range(first, last + 1, steps)
    ]


def episodes(folder: Path, depth: bool, window: Window) -> Iterator[dict[str, Any]]:
    """The one episode of a window; DatasetError names a step that is not as it should be."""
    keys = (*_KEYS, *(_DEPTHS if depth else ()))
    steps: dict[str, list] = {key: [] for key in keys}
    for number in range(window.first, window.last + 1):
        for key, value in _step(folder / f"episode_{number:07d}.npz", keys).items():
            steps[key].append(value)
    episode = {
        "rgb/primary": steps["rgb_static"],
        "rgb/wrist": steps["rgb_gripper"],
        "action": np.asarray(steps["rel_actions"], np.float64) / SCALES,
        "state": np.asarray(steps["robot_obs"], np.float32),
        "instruction": window.instruction,
        "metadata": {"task": window.task, "first": window.first, "last": window.last},
    }
    if depth:
        episode |= {"depth/primary": steps["depth_static"], "depth/wrist": steps["depth_gripper"]}
    yield episode


def _step(path, keys):
    """Values of one step, pictures encoded: an episode of them would be hundreds of megabytes."""
    try:
        with np.load(path, allow_pickle=False) as file:
            values = {key: file[key] for key in keys}
    except (OSError, ValueError, KeyError) as error:
        raise DatasetError(f"{path}: cannot be read: {error}") from error
    for key, value in values.items():
        if key.startswith("rgb"):
            values[key] = png(value)
        elif key.startswith("depth"):
            values[key] = png(millimetres(value))
    return values


def millimetres(depth_m_HW: np.ndarray) -> np.ndarray:
    """Depth in metres as uint16 millimetres; 0 where it is no positive number or beyond 65 m."""
    depth_mm = np.rint(
        np.nan_to_num(np.asarray(depth_m_HW, np.float64), nan=0, posinf=0, neginf=0) / DEPTH_UNIT_M
    )
    return np.where((depth_mm > 0) & (depth_mm < 2**16), depth_mm, 0).astype(np.uint16)


def has_depth(folder: Path, window: Window) -> bool:
    """Whether steps of a split hold depth; copies without it are in use."""
    with np.load(folder / f"episode_{window.first:07d}.npz", allow_pickle=False) as file:
        return set(_DEPTHS) <= set(file.files)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the dataset."""
    parser = argparse.ArgumentParser(description="Write CALVIN's play data as RLDS.")
    parser.add_argument("files", type=Path, help="folder with `training` and `validation`")
    parser.add_argument("data", help="folder of datasets")
    parser.add_argument("--name", default="calvin", help="of the dataset (default: calvin)")
    parser.add_argument(
        "--play", action="store_true", help="all play without instructions, not annotated windows"
    )
    add_beam_flags(parser)
    flags = parser.parse_args(argv)
    folders = {split: flags.files / name for split, name in SPLITS.items() if (flags.files / name).is_dir()}
    if not folders:
        raise DatasetError(f"{flags.files}: expected folders {sorted(SPLITS.values())}")
    windows = {
        split: pieces(folder) if flags.play else annotated(folder) for split, folder in folders.items()
    }
    depth = all(has_depth(folders[split], of[0]) for split, of in windows.items() if of)
    folder = write_dataset(
        flags.data,
        dataset_spec(flags.name, flags.play, depth),
        {
            split: Recordings(of, functools.partial(episodes, folders[split], depth))
            for split, of in windows.items()
        },
        metadata={
            "task": tfds.features.Text(),
            "first": tfds.features.Scalar(dtype=np.int64),
            "last": tfds.features.Scalar(dtype=np.int64),
        },
        description="CALVIN, written by data_pipelines/builders/calvin.py.",
        beam=flags.beam,
    )
    print(f"dataset: {folder}")


if __name__ == "__main__":
    main()
