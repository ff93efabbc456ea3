"""Writes tiny RLDS datasets for tests, without TensorFlow.

Records are framed here by hand, so that the reader is tested against an
independent writer. Images are encoded with OpenCV.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

import cv2
import google_crc32c
import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from farsighted_jax.core import spec as spec_lib


def tiny_spec(name="tiny", *, width=7, state_width=5, depth=None, hz=5.0, wrist=False):
    """A specification that fits what `write_rlds` writes with the same arguments."""
    delta = width - 1
    return spec_lib.DatasetSpec(
        name=name,
        hz=hz,
        cameras=(
            spec_lib.CameraSpec(
                "primary",
                rgb_key="observation/image",
                depth_key="observation/depth" if depth else "",
                depth_unit_m=0.001 if depth == "png" else 1.0,
            ),
            *((spec_lib.CameraSpec("wrist", rgb_key="observation/wrist"),) if wrist else ()),
        ),
        action=spec_lib.ActionSpec(
            names=(*(f"a{i}" for i in range(delta)), "gripper"),
            units=("m",) * delta + ("1",),
            groups=("translation",) * delta + ("gripper",),
            delta=(True,) * delta + (False,),
            frame="base",
            rotation="none",
            hz=hz,
        ),
        state_key="observation/state",
        state_names=tuple(f"s{i}" for i in range(state_width)),
        language_key="language_instruction",
        source="written by a test",
    )


def tiny_features(
    *, width=7, state_width=5, size=(12, 16), depth=None, wrist=False, encoding="none", drop=()
):
    """TFDS features; `depth` is None, "tensor" (float32 metres) or "png" (uint16 millimetres)."""

    def tensor(*shape):
        return tfds.features.Tensor(shape=shape, dtype=np.float32, encoding=encoding)

    observation = {
        "image": tfds.features.Image(shape=(*size, 3), encoding_format="png"),
        "state": tensor(state_width),
    }
    if wrist:
        observation["wrist"] = tfds.features.Image(shape=(*size, 3), encoding_format="png")
    if depth == "tensor":
        observation["depth"] = tensor(*size, 1)
    elif depth == "png":
        observation["depth"] = tfds.features.Image(shape=(*size, 1), dtype=np.uint16, encoding_format="png")
    step = {
        "observation": observation,
        "action": tensor(width),
        "language_instruction": tfds.features.Text(),
        "is_first": tfds.features.Scalar(dtype=np.bool_),
        "is_last": tfds.features.Scalar(dtype=np.bool_),
    }
    for key in drop:
        (step if key in step else observation).pop(key)
    return tfds.features.FeaturesDict(
        {
            "steps": tfds.features.Dataset(step),
            "episode_metadata": tfds.features.FeaturesDict(
                {"episode_id": tfds.features.Scalar(dtype=np.int32)}
            ),
        }
    )


def episode_steps(
    episode, length, *, width=7, state_width=5, size=(12, 16), depth=None, wrist=False, instruction=None
):
    """Steps of one episode, a function of its arguments alone; images are raw uint8[H, W, 3]."""
    rng = np.random.default_rng([episode, length])
    steps = []
    for step in range(length):
        image = rng.integers(0, 256, (*size, 3), np.uint8)
        observation = {"image": image, "state": rng.normal(size=state_width).astype(np.float32)}
        if depth == "tensor":
            observation["depth"] = rng.uniform(0.5, 2.0, (*size, 1)).astype(np.float32)
        elif depth == "png":
            observation["depth"] = rng.integers(0, 2000, (*size, 1)).astype(np.uint16)
        if wrist:
            observation["wrist"] = 255 - image
        steps.append(
            {
                "observation": observation,
                "action": rng.normal(size=width).astype(np.float32),
                "language_instruction": f"task {episode}" if instruction is None else instruction,
                "is_first": step == 0,
                "is_last": False,
            }
        )
    return steps


def write_rlds(
    root,
    name="tiny",
    *,
    lengths=None,
    shards=2,
    width=7,
    state_width=5,
    size=(12, 16),
    depth=None,
    wrist=False,
    hz=5.0,
    encoding="none",
    file_format="tfrecord",
    instruction=None,
    edit=None,
    drop=(),
    spec=True,
):
    """Writes `<root>/<name>/1.0.0` and returns that folder.

    Args:
      root: folder of datasets.
      name: dataset name.
      lengths: split -> steps of each episode; by default train (6, 5, 4, 7) and val (5, 3).
      shards: files of the train split; other splits have one.
      width, state_width, size, depth, instruction: see `episode_steps`.
      wrist: whether there is a second camera, without depth.
      hz: rate in the specification.
      encoding: TFDS encoding of the float tensors, "none", "bytes" or "zlib".
      file_format: "tfrecord" or "array_record".
      edit: function (split, episode, steps) that may change the steps in place, e.g. put a NaN.
      drop: features to leave out.
      spec: whether to write dataset_spec.json.
    """
    lengths = lengths or {"train": (6, 5, 4, 7), "val": (5, 3)}
    folder = Path(root) / name / "1.0.0"
    folder.mkdir(parents=True)
    sizes = {"width": width, "state_width": state_width, "size": size, "depth": depth, "wrist": wrist}
    features = tiny_features(**sizes, encoding=encoding, drop=drop)
    splits = []
    for split, split_lengths in lengths.items():
        records = []
        for episode, length in enumerate(split_lengths):
            steps = episode_steps(episode, length, **sizes, instruction=instruction)
            if edit is not None:
                edit(split, episode, steps)
            records.append(serialized_episode(features, episode, steps, drop))
        parts = np.array_split(np.arange(len(records)), shards if split == "train" else 1)
        for shard, part in enumerate(parts):
            path = folder / f"{name}-{split}.{file_format}-{shard:05d}-of-{len(parts):05d}"
            write_records(path, [records[i] for i in part], file_format)
        splits.append({"name": split, "shardLengths": [str(len(part)) for part in parts], "numBytes": "0"})
    info = {"name": name, "version": "1.0.0", "fileFormat": file_format, "splits": splits}
    (folder / "dataset_info.json").write_text(json.dumps(info))
    features.save_config(str(folder))
    if spec:
        del sizes["size"]
        values = spec_lib.to_dict(tiny_spec(name, **sizes, hz=hz))
        (folder / "dataset_spec.json").write_text(json.dumps(values))
    return folder


def serialized_episode(features, episode, steps, drop=()):
    """One tf.train.Example; image values that are bytes already are stored as they are."""
    encoded = []
    for step in steps:
        observation = {k: v for k, v in step["observation"].items() if k not in drop}
        for key in ("image", "wrist", "depth"):
            if (
                key in observation
                and isinstance(observation[key], np.ndarray)
                and observation[key].dtype != np.float32
            ):
                observation[key] = png_bytes(observation[key])
        encoded.append({**{k: v for k, v in step.items() if k not in drop}, "observation": observation})
    return features.serialize_example({"steps": encoded, "episode_metadata": {"episode_id": episode}})


def png_bytes(image):
    """PNG of uint8[H, W, 3] rgb or of one channel of uint8 or uint16."""
    return cv2.imencode(".png", image[..., ::-1] if image.shape[-1] == 3 else image)[1].tobytes()


def framed(record):
    """One TFRecord frame around a payload."""
    length = struct.pack("<Q", len(record))
    return length + _masked(length) + record + _masked(record)


def write_records(path, records, file_format="tfrecord"):
    """Writes payloads as one record file."""
    if file_format == "tfrecord":
        Path(path).write_bytes(b"".join(framed(record) for record in records))
        return
    writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
    for record in records:
        writer.write(record)
    writer.close()


def _masked(data):
    crc = google_crc32c.value(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
