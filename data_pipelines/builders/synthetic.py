"""The procedural scenes of `data_pipelines.synthetic` as RLDS on disk, written through TFDS.

ArrayRecord needs no TensorFlow; TFRecord does (extra `build`). Episodes keep
their order, so that episode i of a split is `render_episode(level, split, seed, i)`.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import synthetic
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec, to_dict

VERSION = "1.0.0"
RECIPE = "recipe.json"
FILE_FORMATS = ("array_record", "tfrecord")
DEPTH_UNIT_M = 0.001
NUM_EPISODES = {"train": 400, "val": 50}
# Long episodes are fewer.
LONG = {"train": 160, "val": 36}


def dataset_name(level: str) -> str:
    """Folder and RLDS name of a level."""
    return f"synthetic_{level}"


def dataset_spec(level: str, name: str = "", *, video: bool = False) -> DatasetSpec:
    """The specification that is written beside the records; `video` without the actions, which are there."""
    action = ActionSpec(
        names=synthetic.ACTION_NAMES,
        units=("px", "px"),
        groups=("translation", "translation"),
        delta=(True, True),
        frame="world",
        rotation="none",
        hz=synthetic.HZ,
    )
    camera = CameraSpec("primary", "observation/image", "observation/depth", DEPTH_UNIT_M, depth_max_m=10.0)
    return DatasetSpec(
        name=name or dataset_name(level),
        hz=synthetic.HZ,
        cameras=(camera,),
        action=None if video else action,
        state_key="observation/state",
        state_names=("actor_x", "actor_y"),
        language_key="language_instruction",
        source="data_pipelines/synthetic.py",
    )


def write_dataset(
    directory: str | os.PathLike,
    level: str,
    *,
    num_train: int,
    num_val: int,
    seed: int = 0,
    file_format: str = "array_record",
    name: str = "",
    video: bool = False,
    num_steps: int = 0,
    progress: Callable[[str], None] | None = None,
) -> Path:
    """Writes `<directory>/<name>/1.0.0`, unless the same data stand there already.

    Args:
      directory: folder of datasets.
      level: key of `synthetic.LEVELS`.
      num_train: episodes of the split "train".
      num_val: episodes of the split "val".
      seed: of all episodes.
      file_format: one of `FILE_FORMATS`.
      name: of the dataset; synthetic_<level> by default.
      video: its specification knows no actions.
      num_steps: of every episode; 0 for the level's own.
      progress: gets one line before the work starts.

    Returns:
      The version folder.

    Raises:
      ValueError: an unknown level or file format, or other data in that folder.
    """
    if level not in synthetic.LEVELS or file_format not in FILE_FORMATS:
        raise ValueError(
            f"level {level!r} and file format {file_format!r} must be among "
            f"{sorted(synthetic.LEVELS)} and {FILE_FORMATS}"
        )
    name = name or dataset_name(level)
    folder = Path(directory) / name / VERSION
    recipe = {"level": level, "num_train": num_train, "num_val": num_val, "seed": seed, "format": file_format}
    recipe |= {"video": True} if video else {}
    recipe |= {"num_steps": num_steps} if num_steps else {}
    recipe_path = folder / RECIPE
    if recipe_path.exists():
        found = json.loads(recipe_path.read_text(encoding="utf-8"))
        if found == recipe:
            return folder
        raise ValueError(f"{folder} holds other data: its recipe is {found}, expected {recipe}")
    if progress:
        progress(f"writing {num_train} + {num_val} episodes of {name} to {folder}")
    builder = _Builder(
        level,
        {"train": num_train, "val": num_val},
        seed,
        name,
        num_steps,
        data_dir=str(directory),
        file_format=file_format,
    )
    builder.download_and_prepare()
    (folder / "dataset_spec.json").write_text(
        json.dumps(to_dict(dataset_spec(level, name, video=video)), indent=2) + "\n", encoding="utf-8"
    )
    recipe_path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
    return folder


def true_motion(folder: str | os.PathLike, split: str) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """The true displacement of the actor for the windows of a batch: the ceiling of a probe.

    Args:
      folder: as `write_dataset` returned it.
      split: "train" or "val".

    Returns:
      batch -> float32[B, t, 2] pixels on the ground from frame 0 to frame k; 0
      where frame k is missing.
    """
    recipe = json.loads((Path(folder) / RECIPE).read_text(encoding="utf-8"))
    positions: dict[int, np.ndarray] = {}

    def motion(batch):
        steps_BT = np.rint(batch["time_s"] * synthetic.HZ).astype(int) + batch["step"][:, None]
        moved = np.zeros((*steps_BT.shape, 2), np.float32)
        for row, episode in enumerate(batch["episode"].tolist()):
            if episode < 0:
                continue
            if episode not in positions:
                positions[episode] = synthetic.actor_path(
                    recipe["level"], split, recipe["seed"], episode, recipe.get("num_steps", 0)
                )
            moved[row] = positions[episode][steps_BT[row]]
        return np.where(batch["frame_valid"][:, 1:, None], moved[:, 1:] - moved[:, :1], 0)

    return motion


def main(argv: Sequence[str] | None = None) -> None:
    """`python -m data_pipelines.builders.synthetic DIR --level hard`: writes a dataset."""
    parser = argparse.ArgumentParser(description="Write a procedural dataset as RLDS.")
    parser.add_argument("directory", help="folder of datasets")
    parser.add_argument("--level", choices=sorted(synthetic.LEVELS), default="hard")
    for split, number in NUM_EPISODES.items():
        text = f"episodes of {split} (default: {number}; {LONG[split]} for level long)"
        parser.add_argument(f"--{split}", type=int, help=text)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file-format", choices=FILE_FORMATS, default="array_record")
    parser.add_argument("--name", default="", help="of the dataset (default: synthetic_LEVEL)")
    parser.add_argument("--steps", type=int, default=0, help="of every episode (default: the level's own)")
    parser.add_argument("--video", action="store_true", help="its specification knows no actions")
    flags = parser.parse_args(argv)
    default = LONG if flags.level == "long" else NUM_EPISODES
    folder = write_dataset(
        flags.directory,
        flags.level,
        num_train=default["train"] if flags.train is None else flags.train,
        num_val=default["val"] if flags.val is None else flags.val,
        seed=flags.seed,
        file_format=flags.file_format,
        name=flags.name,
        video=flags.video,
        num_steps=flags.steps,
        progress=print,
    )
    print(f"dataset: {folder}")


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder of one level."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(
        self, level: str, num_episodes: dict[str, int], seed: int, name: str, num_steps: int, **kwargs
    ):
        self._level, self._num_episodes, self._seed = level, num_episodes, seed
        self._num_steps = num_steps
        self.name = name
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        size = synthetic.LEVELS[self._level].resolution
        step = {
            "observation": {
                "image": tfds.features.Image(shape=(size, size, 3), dtype=np.uint8, encoding_format="png"),
                "depth": tfds.features.Image(shape=(size, size, 1), dtype=np.uint16, encoding_format="png"),
                "state": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            },
            "action": tfds.features.Tensor(shape=(2,), dtype=np.float32),
            "language_instruction": tfds.features.Text(),
            "is_first": tfds.features.Scalar(dtype=np.bool_),
            "is_last": tfds.features.Scalar(dtype=np.bool_),
            "is_terminal": tfds.features.Scalar(dtype=np.bool_),
            "reward": tfds.features.Scalar(dtype=np.float32),
            "discount": tfds.features.Scalar(dtype=np.float32),
        }
        features = {
            "steps": tfds.features.Dataset(step),
            "episode_metadata": {"index": tfds.features.Scalar(dtype=np.int32)},
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Procedural scenes, level {self._level!r}: known motion, depth and actions.",
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(split) for split in self._num_episodes}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        for index in range(self._num_episodes[split]):
            episode = synthetic.render_episode(self._level, split, self._seed, index, self._num_steps)
            yield index, _example(episode, synthetic.instruction(self._level, index), index)


def _example(episode, instruction, index):
    num_steps = len(episode.rgb_THWC)
    depth_THW = np.rint(episode.depth_THW / DEPTH_UNIT_M).astype(np.uint16)
    steps = [
        {
            "observation": {
                "image": png(episode.rgb_THWC[step]),
                "depth": png(depth_THW[step]),
                "state": episode.position_TM[step],
            },
            "action": episode.action_TM[step],
            "language_instruction": instruction,
            "is_first": step == 0,
            "is_last": step == num_steps - 1,
            "is_terminal": False,
            "reward": np.float32(0),
            "discount": np.float32(1),
        }
        for step in range(num_steps)
    ]
    return {"steps": steps, "episode_metadata": {"index": index}}


def png(image: np.ndarray) -> bytes:
    """A picture as a PNG file: uint8[H, W, 3] rgb, or uint16[H, W]."""
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".png", image)[1].tobytes()


if __name__ == "__main__":
    main()
