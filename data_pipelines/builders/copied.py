"""A dataset that can be read, such as LeRobot or videos, as RLDS.

    python -m data_pipelines.builders.copied DATA NAME OUT

LeRobot datasets and videos are read without it. A copy is worth its space where they cannot be: in a bucket
(readers of `gs://` know RLDS alone), for other programs that read RLDS, or where films are slow: of an RLDS
episode any picture is decoded alone. What the numbers mean is what the reader says they do, written beside
the copy; of a registered dataset, actions and states are those of its standardiser.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import tensorflow_datasets as tfds

from data_pipelines import dataset
from data_pipelines.builders.episodes import Recordings, add_beam_flags, write_dataset
from data_pipelines.builders.synthetic import png
from data_pipelines.dataset import Place
from data_pipelines.language.paraphrases import ways_to_say
from data_pipelines.split import EpisodeSplit
from farsighted_jax.core.spec import DatasetSpec

DEPTH_UNIT_M = 0.001
_WAYS = "instructions"
_KEYS = {
    "primary": "image",
    "secondary": "image_secondary",
    "wrist": "wrist_image",
    "left_wrist": "left_wrist_image",
}


class Source(NamedTuple):
    """A split to copy: where its dataset lies, and the quality of JPEG pictures or 0 for PNG."""

    directory: str
    name: str
    split: str
    jpeg: int


def copied_spec(spec: DatasetSpec, name: str) -> DatasetSpec:
    """The same meaning under the keys of a copy; depth is in millimetres, colours are in order."""
    cameras = tuple(
        dataclasses.replace(
            camera,
            rgb_key=f"observation/{_KEYS[camera.name]}",
            depth_key=f"observation/{_KEYS[camera.name]}_depth" if camera.depth_key else "",
            depth_unit_m=DEPTH_UNIT_M if camera.depth_key else camera.depth_unit_m,
            bgr=False,
        )
        for camera in spec.cameras
    )
    return dataclasses.replace(
        spec,
        name=name,
        cameras=cameras,
        action_key="action",
        state_key="observation/state" if spec.state_key else "",
        language_key="language_instruction" if spec.language_key else "",
        paraphrases=_WAYS if spec.language_key else "",
        source=f"copy of {spec.name!r}: {spec.source}",
    )


def episodes(source: Source, number: int) -> Iterator[dict[str, Any]]:
    """One episode of a split; RecordError names what cannot be read."""
    split = _opened(source)
    episode = split.episode(number)
    ways = list(ways_to_say(episode, split.spec))
    copied: dict[str, Any] = {"instruction": episode.instruction, "metadata": {_WAYS: ways}}
    steps = range(episode.num_steps)
    for camera in split.spec.cameras:
        images = (episode.rgb(step, camera.name) for step in steps)
        copied[f"rgb/{camera.name}"] = [_encoded(image, source.jpeg) for image in images]
        if camera.depth_key:
            depths = (episode.depth(step, camera.name) for step in steps)
            copied[f"depth/{camera.name}"] = [png(_stored(depth, camera.depth_unit_m)) for depth in depths]
    if split.spec.action:
        copied["action"] = episode.actions
    if split.spec.state_key:
        copied["state"] = episode.states
    yield copied


@functools.lru_cache(maxsize=8)
def _opened(source) -> EpisodeSplit:
    return dataset.open_split(source.directory, source.name, source.split)


def _encoded(image_HWC, jpeg):
    if not jpeg:
        return png(image_HWC)
    quality = [cv2.IMWRITE_JPEG_QUALITY, jpeg]
    return cv2.imencode(".jpg", np.ascontiguousarray(image_HWC[..., ::-1]), quality)[1].tobytes()


def _stored(depth_HW, unit_m):
    depth_HW = np.rint(np.nan_to_num(depth_HW * (unit_m / DEPTH_UNIT_M), nan=0, posinf=0, neginf=0))
    return np.where((depth_HW > 0) & (depth_HW < 2**16), depth_HW, 0).astype(np.uint16)


def main(argv: Sequence[str] | None = None) -> None:
    """Writes the copy."""
    parser = argparse.ArgumentParser(description="Write a dataset that can be read as RLDS.")
    parser.add_argument("directory", help="folder of datasets")
    parser.add_argument("name", help="of the dataset in it")
    parser.add_argument("data", help="another folder of datasets, for the copy")
    parser.add_argument(
        "--jpeg", type=int, default=0, metavar="QUALITY", help="1 to 100 (default: PNG, lossless)"
    )
    add_beam_flags(parser)
    flags = parser.parse_args(argv)
    sources = {
        split: Source(str(Path(flags.directory).resolve()), flags.name, split, flags.jpeg)
        for split in dataset.split_names(Place(flags.directory, flags.name))
    }
    splits = {split: _opened(source) for split, source in sources.items()}
    spec = next(iter(splits.values())).spec
    folder = write_dataset(
        flags.data,
        copied_spec(spec, flags.name),
        {
            split: Recordings(range(opened.num_episodes), functools.partial(episodes, sources[split]))
            for split, opened in splits.items()
        },
        metadata={_WAYS: tfds.features.Sequence(tfds.features.Text())} if spec.language_key else {},
        description=f"Copy of {flags.name!r}, written by data_pipelines/builders/copied.py.",
        beam=flags.beam,
    )
    print(f"dataset: {folder}")


if __name__ == "__main__":
    main()
