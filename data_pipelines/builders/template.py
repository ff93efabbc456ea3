"""Your recordings as a dataset: copy this file, change the four places marked CHANGE, run it.

    python my_robot.py FILES DATA

As it stands it reads, of every folder below FILES: `steps.csv` with a header and one row a step (x, y, z and
gripper of the hand, then dx, dy, dz and the gripper's command), `frames/0.png, 1.png, ...`, one picture a
step, and `task.txt`, what was to be done.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.builders.episodes import Recordings, add_beam_flags, write_dataset
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec

# CHANGE 1: what the numbers mean. Nothing of it can be found out later, and all of training trusts it.
HZ = 10.0  # steps a second of the recording
SPEC = DatasetSpec(
    name="my_robot",  # what mixtures call it; lower case
    hz=HZ,
    # "primary" comes first; "secondary", "wrist" and, of two arms, "left_wrist" may follow. With depth:
    # depth_key="observation/depth", depth_unit_m=0.001 for millimetres. Upside down: rotate_180=True.
    cameras=(CameraSpec("primary", rgb_key="observation/image"),),
    # Without actions: action=None.
    action=ActionSpec(
        names=("x", "y", "z", "gripper"),
        units=("m", "m", "m", "1"),
        groups=("translation", "translation", "translation", "gripper"),
        delta=(True, True, True, False),  # True: a change in this step; False: where to be
        frame="base",  # which axes x, y, z are along: "base", "tool", "world", ...
        rotation="none",  # "rpy", "axis_angle", "quat_xyzw", "rot6d" for a group "rotation"
        hz=HZ,
        gripper_open=1.0,  # the stored value that opens it
        gripper_closed=0.0,
    ),
    action_key="action",
    state_key="observation/state",  # "" without
    # The same names as in the action where it is the same axis: then `data validate` can compare them.
    state_names=("x", "y", "z", "gripper"),
    language_key="language_instruction",  # "" without
    source="recorded by me",
)


def recordings(files: Path) -> dict[str, list[Path]]:
    """Which recordings make which split."""
    # CHANGE 2: how they are found, and which of them are held out; here every tenth.
    found = sorted(path.parent for path in files.glob("*/steps.csv"))
    held_out = found[9::10]
    return {"train": [path for path in found if path not in held_out], "val": held_out}


def episode(path: Path) -> dict[str, Any]:
    """One recording, T steps long; `builders.episodes` lists what may stand here."""
    # CHANGE 3: how a recording is read. Row t of everything belongs to the same moment: "action"[t] is what
    # was done when "rgb/primary"[t] and "state"[t] were seen.
    with open(path / "steps.csv", newline="", encoding="utf-8") as file:
        rows = [[float(value) for value in row] for row in list(csv.reader(file))[1:]]
    numbers_TC = np.array(rows, np.float32)
    pictures = sorted((path / "frames").glob("*.png"), key=lambda picture: int(picture.stem))
    return {
        # Encoded pictures (png, jpeg) as they are, or uint8[T, H, W, 3].
        "rgb/primary": [picture.read_bytes() for picture in pictures],
        "state": numbers_TC[:, :4],
        "action": numbers_TC[:, 4:],
        "instruction": (path / "task.txt").read_text(encoding="utf-8").strip(),
    }


def episodes(path: Path) -> Iterator[dict[str, Any]]:
    """The episodes of one recording: one here; a file that holds many gives them one after the other."""
    # CHANGE 4: whatever should be left out, such as recordings that failed.
    yield episode(path)


def main() -> None:
    """Writes the dataset."""
    parser = argparse.ArgumentParser(description="Write recordings as RLDS.")
    parser.add_argument("files", type=Path, help="folder of recordings")
    parser.add_argument("data", help="folder of datasets")
    add_beam_flags(parser)
    flags = parser.parse_args()
    splits = {name: paths for name, paths in recordings(flags.files).items() if paths}
    folder = write_dataset(
        flags.data,
        SPEC,
        {name: Recordings(paths, episodes) for name, paths in splits.items()},
        beam=flags.beam,
    )
    print(f"dataset: {folder}")


if __name__ == "__main__":
    main()
