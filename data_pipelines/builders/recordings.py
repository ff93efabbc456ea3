"""Recorded episodes (one .npz each) as RLDS on disk, written through TFDS.

An episode file holds, T steps long, what its `DatasetSpec` names by role: "rgb/<camera>" uint8[T, H, W, 3],
"depth/<camera>" uint16[T, H, W] in the camera's unit (0: not measured), "action" float32[T, M], "state"
float32[T, S]; besides "instructions" (ways to say the task, the first the usual one), "task", "seed" and
"success". Each episode is told by one of its instructions, in turn, as `language_instruction`; all stand in
its metadata. Files are read without pickle.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.builders.synthetic import FILE_FORMATS, png
from data_pipelines.errors import DatasetError
from farsighted_jax.core.spec import DatasetSpec, to_dict

VERSION = "1.0.0"
# How a dataset was recorded; the procedural ones have a `recipe.json` of another kind.
RECORDING = "recording.json"


def dataset_folder(directory: str | os.PathLike, name: str) -> Path:
    """Where a dataset of that name is written."""
    return Path(directory) / name / VERSION


def written_recipe(folder: str | os.PathLike) -> dict[str, Any] | None:
    """How a finished dataset was made, or None where there is none."""
    path = Path(folder) / RECORDING
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_dataset(
    directory: str | os.PathLike,
    spec: DatasetSpec,
    episodes: Mapping[str, Sequence[Path]],
    recipe: Mapping[str, Any],
    file_format: str = "array_record",
) -> Path:
    """Writes `<directory>/<spec.name>/1.0.0` with its specification and recipe beside the records.

    Args:
      directory: folder of datasets.
      spec: what the numbers mean; without `action`, none are written.
      episodes: split -> episode files in their order; at least one each.
      recipe: how the episodes were made, as JSON.
      file_format: "array_record", or "tfrecord", which needs TensorFlow (extra `build`).

    Returns:
      The version folder.

    Raises:
      DatasetError: an unknown file format, a split without an episode, or a file that lacks something.
    """
    if file_format not in FILE_FORMATS:
        raise DatasetError(f"file format {file_format!r}, expected one of {FILE_FORMATS}")
    if empty := [split for split, paths in episodes.items() if not paths]:
        raise DatasetError(f"dataset {spec.name!r}: no episodes for split(s) {empty}")
    builder = _Builder(spec, episodes, data_dir=str(directory), file_format=file_format)
    builder.download_and_prepare()
    folder = dataset_folder(directory, spec.name)
    for name, values in (("dataset_spec.json", to_dict(spec)), (RECORDING, dict(recipe))):
        (folder / name).write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    return folder


def _read(path: Path, spec: DatasetSpec) -> dict[str, np.ndarray]:
    with np.load(path, allow_pickle=False) as file:
        episode = {key: file[key] for key in file.files}
    needed = {"state", "instructions", "task", "seed", "success"} | ({"action"} if spec.action else set())
    for camera in spec.cameras:
        needed |= {f"rgb/{camera.name}"} | ({f"depth/{camera.name}"} if camera.depth_key else set())
    if missing := sorted(needed - episode.keys()):
        raise DatasetError(f"episode {path}: {missing} missing; it has {sorted(episode)}")
    return episode


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder of recorded episodes."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, spec: DatasetSpec, episodes: Mapping[str, Sequence[Path]], **kwargs):
        self._spec, self._episodes = spec, episodes
        self._first = _read(next(iter(episodes.values()))[0], spec)
        self.name = spec.name
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        spec, first, flat = self._spec, self._first, {}
        for camera in spec.cameras:
            size = first[f"rgb/{camera.name}"].shape[1:3]
            flat[camera.rgb_key] = _image((*size, 3), np.uint8)
            if camera.depth_key:
                flat[camera.depth_key] = _image((*size, 1), np.uint16)
        if spec.action:
            flat[spec.action_key] = _vector(first["action"])
        flat[spec.state_key] = _vector(first["state"])
        flat[spec.language_key] = tfds.features.Text()
        for name in ("is_first", "is_last", "is_terminal"):
            flat[name] = tfds.features.Scalar(dtype=np.bool_)
        for name in ("reward", "discount"):
            flat[name] = tfds.features.Scalar(dtype=np.float32)
        metadata = {
            "task": tfds.features.Text(),
            "instructions": tfds.features.Sequence(tfds.features.Text()),
            "seed": tfds.features.Scalar(dtype=np.int64),
            "success": tfds.features.Scalar(dtype=np.bool_),
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"Recorded episodes of {spec.name!r}; recording.json says how.",
            features=tfds.features.FeaturesDict(
                {"steps": tfds.features.Dataset(_nested(flat)), "episode_metadata": metadata}
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        return {split: self._generate_examples(paths) for split, paths in self._episodes.items()}

    def _generate_examples(self, paths: Sequence[Path]) -> Iterator[tuple[int, dict]]:
        for index, path in enumerate(paths):
            yield index, _example(_read(path, self._spec), self._spec, index)


def _example(episode, spec, index):
    num_steps = len(episode["state"])
    instructions = [str(text) for text in episode["instructions"]]
    steps = []
    for step in range(num_steps):
        flat = {
            spec.state_key: episode["state"][step],
            spec.language_key: instructions[index % len(instructions)],
            "is_first": step == 0,
            "is_last": step == num_steps - 1,
            "is_terminal": step == num_steps - 1 and bool(episode["success"]),
            "reward": np.float32(step == num_steps - 1 and episode["success"]),
            "discount": np.float32(1),
        }
        if spec.action:
            flat[spec.action_key] = episode["action"][step]
        for camera in spec.cameras:
            flat[camera.rgb_key] = png(episode[f"rgb/{camera.name}"][step])
            if camera.depth_key:
                flat[camera.depth_key] = png(episode[f"depth/{camera.name}"][step])
        steps.append(_nested(flat))
    metadata = {"task": str(episode["task"]), "instructions": instructions}
    metadata |= {"seed": int(episode["seed"]), "success": bool(episode["success"])}
    return {"steps": steps, "episode_metadata": metadata}


def _image(shape, dtype):
    return tfds.features.Image(shape=shape, dtype=dtype, encoding_format="png")


def _vector(value_TM):
    return tfds.features.Tensor(shape=value_TM.shape[1:], dtype=np.float32)


def _nested(flat):
    """A tree of "/"-separated keys."""
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split("/")
        node = nested
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return nested
