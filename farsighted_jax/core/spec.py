"""Specifications of actions, cameras and datasets: plain, typed, serialisable.

A specification says what a number means (name, unit, frame, delta or absolute,
gripper polarity, rate), travels with statistics and checkpoints as JSON, and
is the same object from the reader to the policy server.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

ROTATIONS = ("none", "rpy", "axis_angle", "quat_xyzw", "rot6d")
FRAMES = ("base", "tool", "world", "camera", "image", "joint")
GROUPS = ("translation", "rotation", "gripper", "joint", "other")
NORMALIZATIONS = ("q01_q99", "mean_std", "none")
# Of two arms the right hand's camera is "wrist".
CAMERA_ROLES = ("primary", "secondary", "wrist", "left_wrist")


class SpecError(ValueError):
    """A specification contradicts itself; the message names the field."""


@dataclasses.dataclass(frozen=True)
class ActionSpec:
    """What an action vector of M dimensions means.

    Attributes:
      names: M names, e.g. ("x", "y", "z", "roll", "pitch", "yaw", "gripper").
      units: M units; "m", "rad", "px" or "1".
      groups: M words of `GROUPS`; metrics are reported per group.
      delta: M flags; True where the value is a change a step, False where absolute.
      frame: one word of `FRAMES`, the frame translations are expressed in.
      rotation: one word of `ROTATIONS`, the representation of the rotation group.
      hz: steps a second.
      gripper_open: raw value of an open gripper (ours is 1 = open, 0 = closed).
      gripper_closed: raw value of a closed gripper.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    groups: tuple[str, ...]
    delta: tuple[bool, ...]
    frame: str
    rotation: str
    hz: float
    gripper_open: float = 1.0
    gripper_closed: float = 0.0

    def __post_init__(self):
        width = len(self.names)
        for field in ("units", "groups", "delta"):
            found = len(getattr(self, field))
            if found != width:
                raise SpecError(
                    f"ActionSpec.{field}: {found} entries, expected {width} as in names {self.names}"
                )
        for group in self.groups:
            _one_of("ActionSpec.groups", group, GROUPS)
        _one_of("ActionSpec.frame", self.frame, FRAMES)
        _one_of("ActionSpec.rotation", self.rotation, ROTATIONS)
        _positive("ActionSpec.hz", self.hz)
        if len(set(self.names)) != width:
            raise SpecError(f"ActionSpec.names: repeated name in {self.names}")
        if self.gripper_open == self.gripper_closed:
            raise SpecError(f"ActionSpec.gripper_open equals gripper_closed: {self.gripper_open}")

    @property
    def width(self) -> int:
        """Number of action dimensions M."""
        return len(self.names)


@dataclasses.dataclass(frozen=True)
class CameraSpec:
    """One camera of a dataset.

    Attributes:
      name: role of the camera, one word of `CAMERA_ROLES`.
      rgb_key: step feature of the rgb image, "/"-separated.
      depth_key: step feature of the depth map, or "" without one.
      depth_unit_m: metres a stored depth unit (0.001 for uint16 millimetres).
      depth_max_m: stored values beyond it (and 0) count as not measured.
      rotate_180: whether the stored image is upside down.
      bgr: whether the stored image has red and blue exchanged.
    """

    name: str
    rgb_key: str
    depth_key: str = ""
    depth_unit_m: float = 1.0
    depth_max_m: float = 10.0
    rotate_180: bool = False
    bgr: bool = False

    def __post_init__(self):
        _one_of("CameraSpec.name", self.name, CAMERA_ROLES)
        _positive("CameraSpec.depth_unit_m", self.depth_unit_m)
        _positive("CameraSpec.depth_max_m", self.depth_max_m)


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """Where a dataset keeps what, and what it means.

    Attributes:
      name: RLDS name, which is the folder name too.
      hz: frames a second (keyframe offsets in seconds need it).
      cameras: cameras by role, "primary" first.
      action: meaning of the action, or None for action-free video.
      action_key: step feature of the action, "/"-separated.
      state_key: step feature of the proprioception, or "".
      state_names: names of its dimensions.
      language_key: step feature of the instruction, or "".
      paraphrases: feature of the episode (below episode_metadata) with other ways to say it, a text or a
        list of them, or "".
      source: where these facts come from.
    """

    name: str
    hz: float
    cameras: tuple[CameraSpec, ...]
    action: ActionSpec | None = None
    action_key: str = "action"
    state_key: str = ""
    state_names: tuple[str, ...] = ()
    language_key: str = ""
    paraphrases: str = ""
    source: str = ""

    def __post_init__(self):
        _positive(f"DatasetSpec({self.name}).hz", self.hz)
        if not self.cameras or self.cameras[0].name != "primary":
            raise SpecError(f"DatasetSpec({self.name}).cameras: the first camera must be 'primary'")
        roles = [camera.name for camera in self.cameras]
        if len(set(roles)) != len(roles):
            raise SpecError(f"DatasetSpec({self.name}).cameras: repeated role in {roles}")

    def camera(self, name: str) -> CameraSpec:
        """The camera with that role; raises SpecError naming those that exist."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise SpecError(
            f"dataset {self.name!r} has no camera {name!r}; it has {[c.name for c in self.cameras]}"
        )


def to_dict(spec: Any) -> dict[str, Any]:
    """A specification as plain dicts, lists, strings and numbers.

    `CameraSpec.bgr` and `DatasetSpec.paraphrases` came later and stand there only where they say something,
    so that a digest of a specification without them is what it was.
    """
    values = json.loads(json.dumps(dataclasses.asdict(spec)))
    if values.get("paraphrases") == "":
        del values["paraphrases"]
    for camera in (values, *values.get("cameras", ())):
        if camera.get("bgr") is False:
            del camera["bgr"]
    return values


def dataset_spec(values: Mapping[str, Any]) -> DatasetSpec:
    """Inverse of `to_dict` for a DatasetSpec; SpecError names an unknown or missing field."""
    values = dict(values)
    values["cameras"] = tuple(_build(CameraSpec, camera) for camera in values.get("cameras", ()))
    if values.get("action") is not None:
        values["action"] = action_spec(values["action"])
    return _build(DatasetSpec, values)


def action_spec(values: Mapping[str, Any]) -> ActionSpec:
    """Inverse of `to_dict` for an ActionSpec; SpecError names an unknown or missing field."""
    return _build(ActionSpec, values)


def _build(cls, values):
    fields = {field.name: field for field in dataclasses.fields(cls)}
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise SpecError(f"{cls.__name__}: unknown field(s) {unknown}; known: {sorted(fields)}")
    missing = [n for n, f in fields.items() if f.default is dataclasses.MISSING and n not in values]
    if missing:
        raise SpecError(f"{cls.__name__}: missing field(s) {missing}")
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})


def _one_of(field, value, allowed):
    if value not in allowed:
        raise SpecError(f"{field}: {value!r} is not one of {allowed}")


def _positive(field, value):
    if not 0 < value < float("inf"):
        raise SpecError(f"{field}: {value!r} is not positive and finite")
