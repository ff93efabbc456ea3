"""Episodes as RLDS on disk, written through TFDS; ArrayRecord needs no TensorFlow.

An episode is a mapping. It holds, T steps long, what its `DatasetSpec` names by role: "rgb/<camera>"
uint8[T, H, W, 3] or T encoded pictures (png or jpeg), "depth/<camera>" uint16[T, H, W] in the camera's unit
(0: not measured) or T such pictures, "action" float[T, M], "state" float[T, S]; besides "instruction", and
where there are any "success" and "metadata".

Large datasets are built on Apache Beam (extra `beam`), on this machine or, by its flags, on Dataflow, Flink
or Spark: the same episodes in the same order.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.builders.synthetic import FILE_FORMATS, png
from data_pipelines.errors import DatasetError
from data_pipelines.stored_spec import SPEC
from farsighted_jax.core.spec import DatasetSpec, to_dict

VERSION = "1.0.0"
_JPEG = b"\xff\xd8"

Episodes = Callable[[], Iterable[Mapping[str, Any]]]

# Most episodes that one place may give: with Beam, an episode's key is its place's number times this.
_MAX_OF_PLACE = 2**24


@dataclasses.dataclass(frozen=True)
class Recordings:
    """The episodes of a split by the places where they are, which workers can share.

    Attributes:
      places: such as files, in order; Beam sends them to its workers.
      read: place -> its episodes, in order.
    """

    places: Sequence[Any]
    read: Callable[[Any], Iterable[Mapping[str, Any]]]

    def __call__(self) -> Iterator[Mapping[str, Any]]:
        """All of them, one in memory at a time."""
        for place in self.places:
            yield from self.read(place)


def add_beam_flags(parser: argparse.ArgumentParser) -> None:
    """Lets a builder's command line end in `--beam` and flags of Apache Beam: `beam` of `write_dataset`."""
    parser.add_argument(
        "--beam",
        nargs=argparse.REMAINDER,
        metavar="FLAG",
        help="build on Apache Beam (extra `beam`) with the flags that follow, such as --direct_num_workers=4 "
        "--direct_running_mode=multi_processing, or --runner=DataflowRunner and what that needs",
    )


def dataset_folder(directory: str | os.PathLike, name: str) -> epath.Path:
    """Where a dataset of that name is written; a URI where workers on other machines write it."""
    return epath.Path(directory) / name / VERSION


def write_dataset(
    directory: str | os.PathLike,
    spec: DatasetSpec,
    episodes: Mapping[str, Episodes],
    *,
    metadata: Mapping[str, Any] = {},
    description: str = "",
    documents: Mapping[str, Mapping[str, Any]] = {},
    file_format: str = "array_record",
    beam: Sequence[str] | None = None,
) -> epath.Path:
    """Writes `<directory>/<spec.name>/1.0.0` with its specification beside the records.

    Args:
      directory: folder of datasets.
      spec: what the numbers mean; what it does not name is not written.
      episodes: split -> function that gives its episodes in order; one is in memory at a time.
      metadata: TFDS features of the episodes' "metadata".
      description: of the dataset, in words.
      documents: file name -> JSON that is written beside the records.
      file_format: "array_record", or "tfrecord", which needs TensorFlow (extra `build`).
      beam: flags of Apache Beam, on which it is then built; every split must be `Recordings`. None: without.

    Returns:
      The version folder.

    Raises:
      DatasetError: an unknown file format, no split, one without an episode, the folder has other data, or
        an episode lacks something, or is not as the specification and the first one say; it is named.
      ImportError: `beam` without Apache Beam; names the extra.
    """
    if file_format not in FILE_FORMATS:
        raise DatasetError(f"file format {file_format!r}, expected one of {FILE_FORMATS}")
    folder = dataset_folder(directory, spec.name)
    # It is written last: without it an earlier call was stopped, and TFDS keeps what was complete.
    if (folder / SPEC).exists():
        raise DatasetError(f"{folder} is there already; remove it, or write to another folder")
    if beam is not None:
        _check_beam(spec, episodes)
    if not episodes:
        raise DatasetError(f"dataset {spec.name!r}: no recordings for any split; do they lie elsewhere?")
    firsts = {split: next(iter(of()), None) for split, of in episodes.items()}
    if empty := [split for split, first in firsts.items() if first is None]:
        raise DatasetError(f"dataset {spec.name!r}: no episodes for split(s) {empty}")
    first = next(iter(firsts.values()))
    check_episode(first, spec, "the first episode")
    builder = _Builder(
        spec,
        episodes,
        first,
        metadata,
        description,
        beam is not None,
        data_dir=os.fspath(directory),
        file_format=file_format,
    )
    builder.download_and_prepare(download_config=None if beam is None else _on_beam(beam))
    for name, values in {**documents, SPEC: to_dict(spec)}.items():
        (folder / name).write_text(json.dumps(dict(values), indent=2) + "\n", encoding="utf-8")
    return folder


def needed(spec: DatasetSpec) -> set[str]:
    """What an episode must hold."""
    depth = {f"depth/{camera.name}" for camera in spec.cameras if camera.depth_key}
    numbers = {"action": spec.action, "state": spec.state_key, "instruction": spec.language_key}
    return {f"rgb/{c.name}" for c in spec.cameras} | depth | {name for name, has in numbers.items() if has}


def check_episode(episode: Mapping[str, Any], spec: DatasetSpec, place: str) -> None:
    """Compares an episode with a specification.

    Raises:
      DatasetError: something is missing, or of another length, width or type; names it and the place.
    """
    if missing := sorted(needed(spec) - episode.keys()):
        raise DatasetError(f"{place}: {missing} missing; it has {sorted(episode)}")
    lengths = {name: len(episode[name]) for name in sorted(needed(spec) - {"instruction"})}
    if len(set(lengths.values())) > 1:
        raise DatasetError(f"{place}: lengths differ: {lengths}, expected one row a step in each")
    widths = {"action": spec.action and spec.action.width, "state": len(spec.state_names) or None}
    for name, width in widths.items():
        if name not in lengths:
            continue
        shape = np.shape(episode[name])
        if len(shape) != 2 or width not in (None, shape[1]):
            raise DatasetError(f"{place}: {name!r} has shape {shape}, expected (steps, {width or 'S'})")


def _steps(episode, spec, place) -> list[dict[str, Any]]:
    check_episode(episode, spec, place)
    num_steps = len(episode[f"rgb/{spec.cameras[0].name}"])
    success = bool(episode.get("success", False))
    steps = []
    for step in range(num_steps):
        last = step == num_steps - 1
        flat = {
            "is_first": step == 0,
            "is_last": last,
            "is_terminal": last and success,
            "reward": np.float32(last and success),
            "discount": np.float32(1),
        }
        if spec.language_key:
            flat[spec.language_key] = episode["instruction"]
        if spec.action:
            flat[spec.action_key] = np.asarray(episode["action"][step], np.float32)
        if spec.state_key:
            flat[spec.state_key] = np.asarray(episode["state"][step], np.float32)
        for camera in spec.cameras:
            flat[camera.rgb_key] = _encoded(episode[f"rgb/{camera.name}"][step])
            if camera.depth_key:
                flat[camera.depth_key] = _encoded(episode[f"depth/{camera.name}"][step])
        steps.append(_nested(flat))
    return steps


class _Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """TFDS builder of episodes."""

    VERSION = tfds.core.Version(VERSION)

    def __init__(self, spec, episodes, first, metadata, description, on_beam, **kwargs):
        self._spec, self._episodes, self._first, self._on_beam = spec, episodes, first, on_beam
        self._metadata, self._description = dict(metadata), description
        self.name = spec.name
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        spec, first, flat = self._spec, self._first, {}
        for camera in spec.cameras:
            flat[camera.rgb_key] = _image(first[f"rgb/{camera.name}"][0], 3, np.uint8)
            if camera.depth_key:
                flat[camera.depth_key] = _image(first[f"depth/{camera.name}"][0], 1, np.uint16)
        if spec.action:
            flat[spec.action_key] = _vector(first["action"])
        if spec.state_key:
            flat[spec.state_key] = _vector(first["state"])
        if spec.language_key:
            flat[spec.language_key] = tfds.features.Text()
        for name in ("is_first", "is_last", "is_terminal"):
            flat[name] = tfds.features.Scalar(dtype=np.bool_)
        for name in ("reward", "discount"):
            flat[name] = tfds.features.Scalar(dtype=np.float32)
        features = {"steps": tfds.features.Dataset(_nested(flat))}
        if self._metadata:
            features["episode_metadata"] = self._metadata
        return tfds.core.DatasetInfo(
            builder=self,
            description=self._description,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        del dl_manager
        generate = self._beam_examples if self._on_beam else self._generate_examples
        return {split: generate(split) for split in self._episodes}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict]]:
        for index, episode in enumerate(self._episodes[split]()):
            place = f"{self.name}:{split}, episode {index}"
            yield index, _example(episode, self._spec, place, bool(self._metadata))

    def _beam_examples(self, split):
        import apache_beam

        recordings = self._episodes[split]
        # What workers get must not hold this builder.
        read = functools.partial(
            _keyed_examples, recordings.read, self._spec, f"{self.name}:{split}", bool(self._metadata)
        )
        places = apache_beam.Create(list(enumerate(recordings.places)))
        return places | apache_beam.Reshuffle() | apache_beam.FlatMap(read)


def _example(episode, spec, place, with_metadata):
    steps = {"steps": _steps(episode, spec, place)}
    return steps | ({"episode_metadata": episode["metadata"]} if with_metadata else {})


def _keyed_examples(read, spec, name, with_metadata, numbered):
    number, place = numbered
    for index, episode in enumerate(read(place)):
        if index == _MAX_OF_PLACE:
            raise DatasetError(f"{name}: {place} holds more than {_MAX_OF_PLACE} episodes")
        named = f"{name}, episode {index} of {place}"
        yield number * _MAX_OF_PLACE + index, _example(episode, spec, named, with_metadata)


def _check_beam(spec, episodes):
    try:
        import apache_beam  # noqa: F401
    except ImportError as error:
        raise ImportError("building on Apache Beam needs it: pip install farsighted-jax[beam]") from error
    if plain := [split for split, of in episodes.items() if not isinstance(of, Recordings)]:
        raise DatasetError(
            f"dataset {spec.name!r}: Apache Beam shares out `Recordings`, found functions for {plain}"
        )


def _on_beam(flags):
    from apache_beam.options.pipeline_options import PipelineOptions

    return tfds.download.DownloadConfig(beam_options=PipelineOptions(list(flags)))


def _encoded(image):
    return image if isinstance(image, bytes) else png(np.asarray(image))


def _image(image, channels, dtype):
    """TFDS feature of pictures like this one."""
    encoded = _encoded(image)
    decoded = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if decoded is None:
        raise DatasetError(f"the first picture cannot be decoded: {len(encoded)} bytes")
    kind = "jpeg" if encoded.startswith(_JPEG) else "png"
    return tfds.features.Image(shape=(*decoded.shape[:2], channels), dtype=dtype, encoding_format=kind)


def _vector(value_TM):
    return tfds.features.Tensor(shape=np.shape(value_TM)[1:], dtype=np.float32)


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
