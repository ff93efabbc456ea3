"""features.json: read with an allow-list, so that data can never choose what code is imported.

TFDS turns each `pythonClassName` into an import. Every node is therefore
compared with a short grammar first, and only then handed to TFDS.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from tensorflow_datasets.core import features as tfds_features
from tensorflow_datasets.core import utils as tfds_nesting

from data_pipelines.errors import DatasetError
from data_pipelines.recipe import Recipe
from farsighted_jax.core.spec import DatasetSpec

_METADATA = "episode_metadata"
_PREFIX = "tensorflow_datasets.core.features."

ALLOWED: dict[str, str] = {
    _PREFIX + "features_dict.FeaturesDict": "featuresDict",
    _PREFIX + "dataset_feature.Dataset": "sequence",
    _PREFIX + "sequence_feature.Sequence": "sequence",
    _PREFIX + "tensor_feature.Tensor": "tensor",
    _PREFIX + "scalar.Scalar": "tensor",
    _PREFIX + "image_feature.Image": "image",
    _PREFIX + "text_feature.Text": "text",
    _PREFIX + "class_label_feature.ClassLabel": "classLabel",
    _PREFIX + "bounding_boxes.BBoxFeature": "boundingBox",
}
_CONTENT_KEYS = {"featuresDict": {"features"}, "sequence": {"feature", "length"}}
_NODE_KEYS = {"pythonClassName", "description", "valueRange"}


@dataclasses.dataclass(frozen=True)
class Features:
    """Features of a dataset by "/"-joined key.

    Attributes:
      leaves: TFDS feature of each key, e.g. "steps/observation/image_0".
      serialized: TFDS TensorInfo (shape, dtype) of each key as it stands in a record.
    """

    leaves: Mapping[str, Any]
    serialized: Mapping[str, Any]


def load_features(text: str, path: str) -> Features:
    """Features from the text of a features.json.

    Raises:
      DatasetError: no JSON, a class that is not allowed or a key outside the
        grammar; the message names the file and the place in the tree. Nothing
        named there has been imported.
    """
    try:
        tree = json.loads(text)
    except json.JSONDecodeError as error:
        raise DatasetError(f"{path}: no JSON: {error}") from error
    _check_node(tree, "", path)
    try:
        root = tfds_features.FeatureConnector.from_json(tree)
        serialized = tfds_nesting.flatten_nest_dict(root.get_serialized_info())
    except Exception as error:
        raise DatasetError(f"{path}: TFDS cannot build these features: {error}") from error
    leaves: dict[str, Any] = {}
    _collect(root, "", leaves)
    return Features(leaves, serialized)


def check_spec(features: Features, spec: DatasetSpec, dataset: str, recipe: Recipe | None = None) -> None:
    """Checks that every feature a specification, or a recipe in its place, names is there, as it says.

    Raises:
      DatasetError: names dataset, key, what was expected and what was found.
    """
    if recipe is not None:
        _check_recipe(features, dataset, recipe)
    else:
        if spec.action is not None:
            _check_vector(features, dataset, spec.action_key, spec.action.width)
        if spec.state_key:
            _check_vector(features, dataset, spec.state_key, len(spec.state_names) or None)
        if spec.language_key:
            _check_text(features, dataset, spec.language_key)
    if spec.paraphrases:
        _check_texts(features, dataset, spec.paraphrases)
    for camera in spec.cameras:
        leaf = _leaf(features, dataset, camera.rgb_key, f"the rgb image of camera {camera.name!r}")
        if not isinstance(leaf, tfds_features.Image) or leaf.shape[-1] != 3 or leaf.np_dtype != np.uint8:
            raise _mismatch(dataset, camera.rgb_key, "Image uint8[H, W, 3]", leaf)
        if camera.depth_key:
            _check_depth(features, dataset, camera.depth_key)


def _check_node(node, place, path):
    here = place or "top level"
    if not isinstance(node, dict) or not isinstance(node.get("pythonClassName"), str):
        raise DatasetError(
            f"{path}: {here}: expected a feature with a pythonClassName, found {str(node)[:120]}"
        )
    name = node["pythonClassName"]
    if name not in ALLOWED:
        raise DatasetError(
            f"{path}: {here}: feature class {name!r} is not allowed; allowed: "
            f"{[allowed.removeprefix(_PREFIX) for allowed in ALLOWED]}"
        )
    content = ALLOWED[name]
    unknown = sorted(set(node) - _NODE_KEYS - {content})
    if unknown:
        raise DatasetError(f"{path}: {here}: unexpected key(s) {unknown} in a {name.rsplit('.', 1)[-1]}")
    if content not in _CONTENT_KEYS:
        return
    inner = node.get(content)
    if not isinstance(inner, dict) or not set(inner) <= _CONTENT_KEYS[content]:
        raise DatasetError(f"{path}: {here}: {content!r} holds {str(inner)[:120]}")
    children = inner.get("features", {}) if content == "featuresDict" else {"": inner.get("feature")}
    if not isinstance(children, dict):
        raise DatasetError(f"{path}: {here}: 'features' is no object but {str(children)[:120]}")
    for key, child in children.items():
        _check_node(child, f"{place}/{key}".strip("/"), path)


def _collect(feature, place, leaves):
    if isinstance(feature, tfds_features.FeaturesDict):
        for key, child in feature.items():
            _collect(child, f"{place}/{key}" if place else key, leaves)
    elif isinstance(feature, tfds_features.Sequence) and place == "steps":
        _collect(feature.feature, place, leaves)
    else:
        leaves[place] = feature


def _leaf(features, dataset, key, meaning):
    full = f"steps/{key}"
    if full not in features.leaves:
        present = sorted(name.removeprefix("steps/") for name in features.leaves if name.startswith("steps/"))
        raise DatasetError(f"dataset {dataset!r}: no feature {key!r} ({meaning}); its steps have {present}")
    return features.leaves[full]


def _check_vector(features, dataset, key, width):
    leaf = _leaf(features, dataset, key, f"float[{width}]" if width else "float vector")
    numeric = isinstance(leaf, tfds_features.Tensor) and np.issubdtype(leaf.np_dtype, np.floating)
    if not numeric or len(leaf.shape) != 1 or (width and leaf.shape[0] != width):
        raise _mismatch(dataset, key, f"Tensor float[{width or 'I'}]", leaf)


def _check_recipe(features, dataset, recipe):
    for part in recipe.parts:
        shape = (part.width,) if part.width else ()
        leaf = _leaf(features, dataset, part.key, f"numbers {list(shape)}")
        numeric = isinstance(leaf, tfds_features.Tensor) and leaf.np_dtype != np.object_
        if not numeric or tuple(leaf.shape) != shape:
            raise _mismatch(dataset, part.key, f"Tensor of numbers {list(shape)}", leaf)
    for key in recipe.language:
        if not recipe.codepoints:
            _check_text(features, dataset, key)
            continue
        leaf = _leaf(features, dataset, key, "numbers of characters")
        whole = isinstance(leaf, tfds_features.Tensor) and np.issubdtype(leaf.np_dtype, np.integer)
        if not whole or len(leaf.shape) != 1:
            raise _mismatch(dataset, key, "Tensor int[L], numbers of characters", leaf)


def _check_text(features, dataset, key):
    leaf = _leaf(features, dataset, key, "text")
    if not isinstance(leaf, tfds_features.Tensor) or leaf.shape != () or leaf.np_dtype != np.object_:
        raise _mismatch(dataset, key, "text", leaf)


def _check_texts(features, dataset, key):
    found = {name for name in features.leaves if name.startswith(f"{_METADATA}/")}
    if f"{_METADATA}/{key}" not in found:
        names = sorted(name.removeprefix(f"{_METADATA}/") for name in found)
        raise DatasetError(f"dataset {dataset!r}: no feature {key!r} of an episode; it has {names}")
    leaf = features.leaves[f"{_METADATA}/{key}"]
    inner = leaf.feature if isinstance(leaf, tfds_features.Sequence) else leaf
    if not isinstance(inner, tfds_features.Tensor) or inner.shape != () or inner.np_dtype != np.object_:
        raise _mismatch(dataset, key, "a text or a list of texts", leaf)


def _check_depth(features, dataset, key):
    leaf = _leaf(features, dataset, key, "a depth map")
    tensor = isinstance(leaf, tfds_features.Tensor) and np.issubdtype(leaf.np_dtype, np.number)
    flat = tensor and len(leaf.shape) == 2
    one_channel = (
        (tensor or isinstance(leaf, tfds_features.Image)) and len(leaf.shape) == 3 and leaf.shape[-1] == 1
    )
    if not (flat or one_channel):
        raise _mismatch(dataset, key, "depth as a Tensor [H, W] or [H, W, 1] or an Image [H, W, 1]", leaf)


def _mismatch(dataset, key, expected, leaf):
    found = " ".join(repr(leaf).split())
    return DatasetError(f"dataset {dataset!r}: feature {key!r}: expected {expected}, found {found[:200]}")
