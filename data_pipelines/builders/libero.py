"""LIBERO's demonstrations (HDF5) as RLDS: both cameras, states, one instruction a file.

    pip install farsighted-jax[hdf5]
    python -m data_pipelines.builders.libero datasets/libero_spatial DATA --name libero_spatial

A file `<task>_demo.hdf5` holds the demonstrations of a task. Every tenth of a file is held out as "val".

What the numbers mean, and who says so:

  actions    commands of robosuite's controller OSC_POSE within [-1, 1], as stored: 1 asks for 0.05 m or
             0.5 rad in a step (robosuite's default configuration), which the arm need not reach: unit "1".
             Rotations are an axis times its angle, axes those of the robot's base.
  gripper    -1 opens, +1 closes (robosuite's Panda gripper).
  state      `obs/ee_states`, place and rotation (axis times angle) of the hand, and `obs/gripper_states`,
             both fingers: what `farsighted rollout run --env libero` shows a policy.
  rate       20 Hz (control_freq of LIBERO's environments).
  cameras    `agentview_rgb` and `eye_in_hand_rgb` begin with the lowest row; the field turns them by 180
             degrees, which leaves left and right exchanged, and so does this (`rotate_180`).
  text       `language_instruction` in the file's `problem_info`.

Steps without motion are kept; OpenVLA leaves them out (its datasets are `libero_*_no_noops` of the registry).
The published files have no depth.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.builders.episodes import Recordings, add_beam_flags, write_dataset
from data_pipelines.errors import DatasetError
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec

HZ = 20.0
HELD_OUT = 10
SOURCE = (
    "action, frame and gripper: robosuite's OSC_POSE (1 asks for 0.05 m, 0.5 rad) and Panda gripper; state: "
    "LIBERO's files; rate: control_freq of its environments; pictures turned: as OpenVLA and openpi read them"
)
_ENDING = "_demo.hdf5"
_CAMERAS = {"rgb/primary": "obs/agentview_rgb", "rgb/wrist": "obs/eye_in_hand_rgb"}
_STATES = ("obs/ee_states", "obs/gripper_states")

# A file and the names of its demonstrations that belong to a split.
Place = tuple[Path, tuple[str, ...]]


def dataset_spec(name: str) -> DatasetSpec:
    """What the written numbers mean; see the module."""
    turn = ("rx", "ry", "rz")
    return DatasetSpec(
        name=name,
        hz=HZ,
        cameras=(
            CameraSpec("primary", "observation/image", rotate_180=True),
            CameraSpec("wrist", "observation/wrist_image", rotate_180=True),
        ),
        action=ActionSpec(
            names=("x", "y", "z", *turn, "gripper"),
            units=("1",) * 7,
            groups=("translation",) * 3 + ("rotation",) * 3 + ("gripper",),
            delta=(True,) * 6 + (False,),
            frame="base",
            rotation="axis_angle",
            hz=HZ,
            gripper_open=-1.0,
            gripper_closed=1.0,
        ),
        state_key="observation/state",
        state_names=("x", "y", "z", *turn, "finger_left", "finger_right"),
        language_key="language_instruction",
        source=SOURCE,
    )


def recordings(files: Path) -> dict[str, list[Place]]:
    """Which demonstrations of which files make which split.

    Raises:
      DatasetError: no file; says what was looked for.
    """
    found = sorted(files.glob(f"**/*{_ENDING}"))
    if not found:
        raise DatasetError(f"{files}: no file *{_ENDING} in it or below it")
    splits: dict[str, list[Place]] = {"train": [], "val": []}
    for path in found:
        with _opened(path) as file:
            names = sorted((name for name in file["data"]), key=_number)
        held_out = names[HELD_OUT - 1 :: HELD_OUT]
        splits["train"].append((path, tuple(name for name in names if name not in held_out)))
        splits["val"] += [(path, tuple(held_out))] if held_out else []
    return {split: places for split, places in splits.items() if places}


def episodes(place: Place) -> Iterator[dict[str, Any]]:
    """The demonstrations of a place; DatasetError names file, demonstration and what it lacks."""
    path, names = place
    with _opened(path) as file:
        instruction = _instruction(path, file["data"])
        for name in names:
            demo = file["data"][name]
            if missing := [key for key in ("actions", *_STATES, *_CAMERAS.values()) if key not in demo]:
                raise DatasetError(f"{path}: {name} lacks {missing}; it has {sorted(demo)}")
            yield {
                **{key: demo[stored][()] for key, stored in _CAMERAS.items()},
                "action": demo["actions"][()],
                "state": np.concatenate([demo[key][()] for key in _STATES], axis=1),
                "instruction": instruction,
                "success": "dones" in demo and bool(demo["dones"][-1]),
                "metadata": {"task": path.name.removesuffix(_ENDING), "demonstration": name},
            }


def _opened(path):
    try:
        import h5py
    except ImportError as error:
        raise ImportError("LIBERO's files need h5py: pip install farsighted-jax[hdf5]") from error
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise DatasetError(f"{path}: cannot be read as HDF5: {error}") from error
    if "data" not in file:
        file.close()
        raise DatasetError(f"{path}: no group 'data'")
    return file


def _instruction(path, data):
    """The task in words; some copies store a list of one, or words in quotes."""
    try:
        text = json.loads(data.attrs["problem_info"])["language_instruction"]
        text = text if isinstance(text, str) else "".join(text)
    except (KeyError, ValueError, TypeError) as error:
        raise DatasetError(
            f"{path}: no language_instruction in 'problem_info' of 'data': {error!r}"
        ) from error
    return text.strip().strip('"')


def _number(name):
    return [int(part) for part in re.findall(r"\d+", name)], name


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the dataset."""
    parser = argparse.ArgumentParser(description="Write LIBERO's demonstrations as RLDS.")
    parser.add_argument("files", type=Path, help="folder of a suite's *_demo.hdf5")
    parser.add_argument("data", help="folder of datasets")
    parser.add_argument("--name", required=True, help="of the dataset, e.g. libero_spatial")
    add_beam_flags(parser)
    flags = parser.parse_args(argv)
    folder = write_dataset(
        flags.data,
        dataset_spec(flags.name),
        {split: Recordings(places, episodes) for split, places in recordings(flags.files).items()},
        metadata={"task": tfds.features.Text(), "demonstration": tfds.features.Text()},
        description="LIBERO's demonstrations, written by data_pipelines/builders/libero.py.",
        beam=flags.beam,
    )
    print(f"dataset: {folder}")


if __name__ == "__main__":
    main()
