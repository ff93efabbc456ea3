"""Images of stored episodes brought to one size, once, by the filter that training uses."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from tensorflow_datasets.core import features as tfds_features
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines.errors import DatasetError
from data_pipelines.features import load_features
from data_pipelines.frame import FrameError, Preprocessing, decode_rgb, prepare_rgb

JPEG_QUALITY = 95
_PREFIX = "steps/"


class ImageResizer:
    """Resizes every image feature of the steps of a dataset to a square; safe to use from threads.

    Images of three channels go through `frame.prepare_rgb`; others, such as depth, take the nearest
    neighbour, as `frame.prepare_depth` does. PNG stays PNG, without loss; JPEG is encoded anew. Depth as
    a tensor stays as it is; training brings it to its own size.
    """

    def __init__(self, features_text: str, path: str, size: int):
        """Takes a features.json and where it is from.

        Raises:
          DatasetError: no image feature.
        """
        leaves = load_features(features_text, path).leaves
        self._preprocessing, self._size = Preprocessing(size), size
        self._images = {
            key: leaf
            for key, leaf in leaves.items()
            if key.startswith(_PREFIX) and isinstance(leaf, tfds_features.Image)
        }
        if not self._images:
            raise DatasetError(f"{path}: no feature of class Image to resize; found {sorted(leaves)}")
        self.features_text = json.dumps(self._declared(json.loads(features_text)), indent=4)

    def resized(self, record: bytes, place: str) -> bytes:
        """A record with its images resized; DatasetError naming place, step and key of one that cannot be."""
        example = tf_example_pb2.Example.FromString(record)
        for key, leaf in self._images.items():
            if key not in example.features.feature:
                raise DatasetError(f"{place}: lacks {key!r}, which features.json declares")
            values = example.features.feature[key].bytes_list.value
            for step, encoded in enumerate(values):
                try:
                    values[step] = self._encoded(encoded, leaf)
                except (FrameError, cv2.error) as error:
                    raise DatasetError(f"{place}: step {step}, key {key!r}: {error}") from error
        # Two runs give the same bytes, so that a digest can tell them apart.
        return example.SerializeToString(deterministic=True)

    def _encoded(self, encoded, leaf):
        if not encoded:
            # A camera that an episode lacks.
            return encoded
        if leaf.shape[-1] == 3:
            image = prepare_rgb(decode_rgb(encoded), self._preprocessing)[..., ::-1]
        else:
            image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
            if image is None:
                raise FrameError(f"cannot decode {len(encoded)} bytes that begin with {encoded[:8]!r}")
            if image.shape[:2] != (self._size, self._size):
                size = (self._size, self._size)
                image = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST_EXACT)
        if encoded[:2] == b"\xff\xd8":
            return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
        return cv2.imencode(".png", image)[1].tobytes()

    def _declared(self, tree):
        for key in self._images:
            node = _node(tree, ["steps"])["sequence"]["feature"]
            node = _node(node, key.removeprefix(_PREFIX).split("/"))
            dimensions = node["image"]["shape"]["dimensions"]
            node["image"]["shape"]["dimensions"] = [str(self._size)] * 2 + dimensions[2:]
        return tree


def _node(tree: dict[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    for part in parts:
        tree = tree["featuresDict"]["features"][part]
    return tree
