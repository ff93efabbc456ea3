"""What LeRobot's features mean: as dataset_spec.json says, or as far as meta/info.json does."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from data_pipelines.errors import DatasetError
from data_pipelines.lerobot.info import INFO, Info
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec

ACTION, STATE, TASK = "action", "observation.state", "task_index"
IMAGE_DTYPES = ("video", "image")
_ASSUMED = (
    "meta/info.json does not say what the actions mean: they are taken as absolute values of unit 1, "
    "a gripper as 1 = open"
)


@dataclasses.dataclass(frozen=True)
class Derived:
    """A specification made of meta/info.json, and what had to be assumed, in words."""

    spec: DatasetSpec
    assumed: str


def derived_spec(info: Info, name: str) -> Derived:
    """The specification that meta/info.json allows; DatasetError without any camera."""
    action = info.features.get(ACTION)
    state = info.features.get(STATE)
    cameras, unused = _cameras(info, name)
    spec = DatasetSpec(
        name=name,
        hz=info.fps,
        cameras=cameras,
        action=None if action is None else _action(names_of(action, "a"), info.fps),
        action_key=ACTION,
        state_key="" if state is None else STATE,
        state_names=() if state is None else names_of(state, "s"),
        language_key=TASK if TASK in info.features else "",
        source=f"{INFO}, LeRobot {info.version}",
    )
    assumed = [_ASSUMED] if action is not None else []
    if unused:
        assumed.append(f"cameras {unused} are left out, as no role is left for them")
    return Derived(spec, "; ".join(assumed))


def check_spec(info: Info, spec: DatasetSpec) -> None:
    """Checks that every feature a specification names is there, as it says.

    Raises:
      DatasetError: names dataset, feature, what was expected and what was found.
    """
    if spec.action is not None:
        _check_vector(info, spec, spec.action_key, spec.action.width)
    if spec.state_key:
        _check_vector(info, spec, spec.state_key, len(spec.state_names) or None)
    if spec.language_key and spec.language_key != TASK:
        raise _mismatch(spec, spec.language_key, f"language_key {TASK!r}, which names the instruction")
    for camera in spec.cameras:
        feature = _feature(info, spec, camera.rgb_key)
        if feature["dtype"] not in IMAGE_DTYPES:
            raise _mismatch(spec, camera.rgb_key, f"a feature of dtype {IMAGE_DTYPES}", feature)
        if camera.bgr:
            raise _mismatch(spec, camera.rgb_key, "bgr false: films of LeRobot datasets are read as they are")
        if camera.depth_key:
            raise _mismatch(spec, camera.depth_key, "no depth_key: depth of LeRobot datasets is not read")
    if spec.hz != info.fps:
        raise DatasetError(
            f"dataset {spec.name!r}: hz {spec.hz:g} of its specification, expected fps {info.fps:g} of {INFO}"
        )


def names_of(feature: Mapping[str, Any], prefix: str) -> tuple[str, ...]:
    """Names of a vector's dimensions, which are written as a list, or as a list or numbers in a dict."""
    width, names = feature["shape"][0], feature.get("names")
    if isinstance(names, dict):
        values = list(names.values())
        in_order = all(isinstance(value, int) for value in values)
        names = sorted(names, key=names.get) if in_order else (values[0] if len(values) == 1 else None)
    if not isinstance(names, list) or len(names) != width or len(set(map(str, names))) != width:
        return tuple(f"{prefix}{i}" for i in range(width))
    return tuple(map(str, names))


def _action(names, hz):
    grippers = ["gripper" in name.lower() for name in names]
    joints = [any(word in name.lower() for word in ("joint", "motor", ".pos")) for name in names]
    groups = ["gripper" if g else "joint" if j else "other" for g, j in zip(grippers, joints, strict=True)]
    return ActionSpec(
        names=names,
        units=("1",) * len(names),
        groups=tuple(groups),
        delta=(False,) * len(names),
        frame="joint",
        rotation="none",
        hz=hz,
    )


def _cameras(info, name):
    keys = [
        key
        for key, feature in info.features.items()
        if feature["dtype"] in IMAGE_DTYPES and not _is_depth(feature)
    ]
    if not keys:
        raise DatasetError(
            f"dataset {name!r}: no camera, expected a feature of dtype {IMAGE_DTYPES} in {info.folder}/{INFO}"
        )
    hands = [key for key in keys if any(word in key.lower() for word in ("wrist", "hand"))]
    left = [key for key in hands if "left" in key.lower()]
    right = [key for key in hands if key not in left]
    roles = dict(zip(("wrist", "left_wrist"), [*right[:1], *left[:1]], strict=False))
    outside = [key for key in keys if key not in roles.values()] or [roles.pop("wrist")]
    roles = dict(zip(("primary", "secondary"), outside, strict=False)) | roles
    cameras = tuple(CameraSpec(role, rgb_key=key) for role, key in roles.items())
    return cameras, [key for key in keys if key not in roles.values()]


def _is_depth(feature):
    parts = [feature.get("info") or {}, feature.get("video_info") or {}]
    return any(part.get("is_depth_map") or part.get("video.is_depth_map") for part in parts)


def _feature(info, spec, key):
    if key not in info.features:
        raise DatasetError(f"dataset {spec.name!r}: no feature {key!r}; {INFO} has {sorted(info.features)}")
    return info.features[key]


def _check_vector(info, spec, key, width):
    feature = _feature(info, spec, key)
    fits = len(feature["shape"]) == 1 and width in (None, feature["shape"][0])
    if not feature["dtype"].startswith("float") or not fits:
        raise _mismatch(spec, key, f"float[{width or 'I'}]", feature)


def _mismatch(spec, key, expected, feature=None):
    found = "" if feature is None else f", found {feature['dtype']}{feature['shape']}"
    return DatasetError(f"dataset {spec.name!r}: feature {key!r}: expected {expected}{found}")
