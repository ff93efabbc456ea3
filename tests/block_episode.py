"""Writes an episode that has just what a block's own table of features says, and reads it back."""

import cv2
import numpy as np
import tensorflow_datasets as tfds

from data_pipelines.episode import Episode, EpisodeParser
from data_pipelines.features import check_spec, load_features

LENGTH = 6
SIZE = (6, 8)
TEXT = "push the red star"


def block_features(block, written=False):
    """TFDS features of an episode, nested as keys say; `written`: as our writer needs them."""
    step = {}
    for key, feature in block.features.items():
        *above, name = key.split("/")
        node = step
        for part in above:
            node = node.setdefault(part, {})
        node[name] = _tfds(feature, written)
    return tfds.features.FeaturesDict({"steps": tfds.features.Dataset(_dicts(step))})


def stored_rows(block, length=LENGTH):
    """Step feature -> one row a step, a function of the block alone; grippers go from end to end."""
    rows = {}
    for key, feature in block.features.items():
        rng = np.random.default_rng(list(key.encode()))
        if feature.kind == "text":
            rows[key] = [TEXT] * length
        elif feature.dtype == "int32" and feature.shape == (512,):
            rows[key] = np.tile(np.pad([ord(c) for c in TEXT], (0, 512 - len(TEXT))), (length, 1))
        elif feature.kind == "picture" and feature.shape[-1] == 3:
            rows[key] = [picture(step) for step in range(length)]
        elif None in feature.shape:
            shape = SIZE if len(feature.shape) == 2 else (*SIZE, 1)
            rows[key] = rng.integers(1, 200, (length, *shape)).astype(feature.dtype)
        else:
            rows[key] = rng.uniform(0.1, 1, (length, *feature.shape)) * rng.choice([-1, 1], feature.shape)
    for part in block.table.parts:
        if part.ends:
            rows[part.key].reshape(length, -1)[:, part.at] = np.resize(part.ends, length)
    return {key: _cast(values, block.features[key]) for key, values in rows.items()}


def picture(step):
    """A picture by which its step and the order of its colours are told."""
    return np.broadcast_to(np.array([200, 100, step], np.uint8), (*SIZE, 3))


def read_back(block, rows):
    """The episode that these rows are stored as."""
    steps = []
    for step in range(len(next(iter(rows.values())))):
        values = {}
        for key, column in rows.items():
            *above, name = key.split("/")
            node = values
            for part in above:
                node = node.setdefault(part, {})
            node[name] = _encoded(column[step], block.features[key])
        steps.append(values)
    record = block_features(block, written=True).serialize_example({"steps": steps})
    stored = load_features(features_text(block_features(block)), "features.json")
    check_spec(stored, block.spec, block.name, block.recipe)
    return Episode(EpisodeParser(stored, block.spec, block.recipe), record, 0, ("made", 0))


def features_text(features):
    """features.json of TFDS features."""
    from google.protobuf import json_format

    return json_format.MessageToJson(features.to_proto())


def _tfds(feature, written):
    shape = feature.shape
    if feature.kind == "text":
        return tfds.features.Text()
    if feature.kind == "picture":
        # Pictures of floats are stored as four channels of bytes.
        as_bytes = written and feature.dtype == "float32"
        shape, dtype = ((None, None, 4), "uint8") if as_bytes else (shape, feature.dtype)
        return tfds.features.Image(shape=shape, dtype=np.dtype(dtype), encoding_format="png")
    shape = tuple(size or SIZE[i] for i, size in enumerate(shape))
    return tfds.features.Tensor(shape=shape, dtype=np.dtype(feature.dtype))


def _dicts(node):
    if isinstance(node, dict):
        return tfds.features.FeaturesDict({key: _dicts(child) for key, child in node.items()})
    return node


def _cast(values, feature):
    return values if feature.kind != "number" else np.asarray(values).astype(feature.dtype)


def _encoded(value, feature):
    if feature.kind != "picture":
        return value
    if feature.dtype == "float32":
        value = value.view(np.uint8)[..., [2, 1, 0, 3]]
    image = value[..., ::-1] if value.shape[-1] == 3 else value
    return cv2.imencode(".png", image)[1].tobytes()
