"""One block a dataset: what it is, what is stored, and how that becomes our actions, state and instruction.

A block is a table of columns. Its specification (names, units, frames) and its recipe (what is read, and
which standardiser makes it ours) are made of the same table, so that they cannot disagree.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

from data_pipelines.recipe import Part, Recipe
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec

CATALOGUE = "TFDS catalogue"
OCTO = "Octo's oxe configuration"
OPENVLA = "OpenVLA's oxe configuration"
PEERS = "Octo's and OpenVLA's oxe configurations"
UNIVLA = "UniVLA's oxe configuration"
RATES = "control frequencies of RDT and LeRobot's Open X port"
STATISTICS = "action statistics published with OpenVLA's 7B model; unconfirmed"
UNCONFIRMED = "unconfirmed"

XYZ, RPY, QUAT = "x y z", "roll pitch yaw", "qx qy qz qw"
JOINTS_6, JOINTS_7 = (" ".join(f"joint_{i}" for i in range(n)) for n in (6, 7))
INSTRUCTION = "language_instruction"
NATURAL = "observation/natural_language_instruction"
RGB_SHAPE = (None, None, 3)


@dataclasses.dataclass(frozen=True)
class Columns:
    """Columns of an action or state: what is read, and what it means.

    Attributes:
      part: what is read.
      names: one a column that comes out.
      unit: of all of them.
      group: see `core.spec.GROUPS`.
      delta: whether they are changes a step.
      rotation: see `core.spec.ROTATIONS`.
      dtype: of the feature.
    """

    part: Part
    names: tuple[str, ...]
    unit: str = "1"
    group: str = "other"
    delta: bool = False
    rotation: str = "none"
    dtype: str = "float32"


def columns(key, width, names, at=0, *, count=None, dtype="float32", side="", **meaning) -> Columns:
    """Columns by key, its width, and names with blanks between; `meaning` as `Columns` and `Part`."""
    names = tuple(f"{side}{name}" for name in names.split())
    reading = {name: meaning.pop(name) for name in ("form", "ends", "scale") if name in meaning}
    part = Part(key, width, at, len(names) if count is None else count, **reading)
    return Columns(part, names, dtype=dtype, **meaning)


def xyz(key, width=3, at=0, *, delta=True, unit="m", **options) -> Columns:
    """A place, or its change."""
    return columns(key, width, "x y z", at, unit=unit, group="translation", delta=delta, **options)


def rpy(key, width=3, at=0, *, delta=True, unit="rad", rotation="rpy", **options) -> Columns:
    """Roll, pitch and yaw, or their change."""
    names = "roll pitch yaw" if rotation == "rpy" else "turn_x turn_y turn_z"
    return columns(
        key, width, names, at, unit=unit, group="rotation", delta=delta, rotation=rotation, **options
    )


def hand(key, width, at=0, **options) -> tuple[Columns, Columns]:
    """Place and roll, pitch, yaw one after the other in one feature, by default as changes."""
    turn = {"unit": options.pop("turn_unit", None) or ("rad" if options.get("unit", "m") == "m" else "1")}
    turn |= {name: options.pop(name) for name in ("rotation",) if name in options}
    return xyz(key, width, at, **options), rpy(key, width, at + 3, **(options | turn))


def gripper(key, width=1, at=0, *, ends=(), held=False, **options) -> Columns:
    """A gripper's opening.

    Args:
      key: step feature.
      width: its columns.
      at: the column.
      ends: stored values when it is open, and closed; () where they are ours and stay as they are.
      held: whether what is stored are commands to open or close, of these signs, between which it stays.
      **options: see `columns`.
    """
    form = "held" if held else "opening" if ends else "stored"
    return columns(key, width, "gripper", at, group="gripper", form=form, ends=ends, **options)


def joints(key, width, count, at=0, *, delta=False, unit="rad", **options) -> Columns:
    """Angles of joints, or their changes."""
    names = " ".join(f"joint_{i}" for i in range(count))
    return columns(key, width, names, at, unit=unit, group="joint", delta=delta, **options)


@dataclasses.dataclass(frozen=True)
class Depth:
    """A depth map.

    Attributes:
      key: step feature below "observation/".
      dtype: of the feature.
      unit_m: a stored unit in metres.
      picture: whether it is stored as a picture.
      channel: whether it has a third axis, of one channel; pictures have one.
    """

    key: str
    dtype: str = "float32"
    unit_m: float = 1.0
    picture: bool = False
    channel: bool = False


@dataclasses.dataclass(frozen=True)
class View:
    """A camera: step features below "observation/", and whether red and blue are exchanged."""

    rgb: str
    depth: Depth | None = None
    bgr: bool = False
    rotate_180: bool = False


def bgr(rgb: str) -> View:
    """A camera whose stored pictures have red and blue exchanged."""
    return View(rgb, bgr=True)


@dataclasses.dataclass(frozen=True)
class Feature:
    """A step feature as it is stored: kind "number", "text" or "picture", shape and dtype."""

    kind: str
    shape: tuple[int | None, ...]
    dtype: str


@dataclasses.dataclass(frozen=True)
class Block:
    """One dataset.

    Attributes:
      spec: what an episode means once it is read.
      table: how it is read.
      robot: embodiment.
      versions: of the RLDS dataset, those that facts here are of.
      pinned: why other versions must not be read, or "".
      features: step features that are read.
      defects: what is wrong or unknown, and what is done about it.
      sources: fact -> where it is from.
    """

    spec: DatasetSpec
    table: Recipe
    robot: str
    versions: tuple[str, ...]
    pinned: str
    features: Mapping[str, Feature]
    defects: tuple[str, ...]
    sources: Mapping[str, str]

    @property
    def name(self) -> str:
        """RLDS name."""
        return self.spec.name

    @property
    def recipe(self) -> Recipe | None:
        """How it is read, or None where all is just stored as `spec` says."""
        return None if self.table.plain else self.table

    def named(self, name: str, *defects: str) -> Block:
        """The same under another name."""
        spec = dataclasses.replace(self.spec, name=name)
        return dataclasses.replace(self, spec=spec, defects=(*defects, *self.defects))


def block(
    name: str,
    robot: str,
    hz: float,
    cameras: Mapping[str, str | View],
    action=(),
    state=(),
    language: str | tuple[str, ...] = INSTRUCTION,
    *,
    frame: str = "base",
    versions: tuple[str, ...] = ("0.1.0",),
    pinned: str = "",
    codepoints: bool = False,
    skip_first: int = 0,
    defects: tuple[str, ...] = (),
    note: str = "",
    sources: Mapping[str, str] = MappingProxyType({}),
) -> Block:
    """A block from its table.

    Args:
      name: RLDS name.
      robot: embodiment.
      hz: steps a second.
      cameras: role -> camera, "primary" first.
      action: columns; () for video without actions.
      state: columns.
      language: step features of the instruction.
      frame: see `core.spec.FRAMES`.
      versions: see `Block`.
      pinned: see `Block`.
      codepoints: see `Recipe`.
      skip_first: see `Recipe`.
      defects: see `Block`.
      note: `DatasetSpec.source`, which is part of a dataset's fingerprint; by default where the block is.
      sources: see `Block`; the rest is from catalogue, peers and their rates.
    """
    action, state = _flat(action), _flat(state)
    language = (language,) if isinstance(language, str) else language
    cameras = {role: View(view) if isinstance(view, str) else view for role, view in cameras.items()}
    recipe = Recipe(
        action=tuple(c.part for c in action),
        state=tuple(c.part for c in state),
        language=tuple(filter(None, language)),
        codepoints=codepoints,
        skip_first=skip_first,
    )
    spec = DatasetSpec(
        name=name,
        hz=hz,
        cameras=tuple(_camera(role, view) for role, view in cameras.items()),
        action=_action(action, frame, hz) if action else None,
        action_key=action[0].part.key if action else "action",
        state_key=state[0].part.key if state else "",
        state_names=tuple(n for c in state for n in c.names),
        language_key=language[0],
        source=note or "block of data_pipelines/oxe",
    )
    return Block(
        spec=spec,
        table=recipe,
        robot=robot,
        versions=versions,
        pinned=pinned,
        features=_features(action + state, recipe, cameras),
        defects=defects,
        sources={
            "features": CATALOGUE,
            "cameras": PEERS,
            "action": PEERS,
            "frame": "not stated, taken as base",
            "hz": RATES,
        }
        | dict(sources),
    )


def _flat(groups):
    flat = []
    for group in groups if isinstance(groups, tuple | list) else (groups,):
        flat += [group] if isinstance(group, Columns) else _flat(group)
    return tuple(flat)


def _camera(role, view):
    depth = view.depth
    return CameraSpec(
        role,
        rgb_key=f"observation/{view.rgb}",
        depth_key=f"observation/{depth.key}" if depth else "",
        depth_unit_m=depth.unit_m if depth else 1.0,
        rotate_180=view.rotate_180,
        bgr=view.bgr,
    )


def _action(action, frame, hz):
    spread = {
        name: tuple(getattr(c, name) for c in action for _ in c.names) for name in ("unit", "group", "delta")
    }
    rotations = {c.rotation for c in action} - {"none"}
    return ActionSpec(
        names=tuple(n for c in action for n in c.names),
        units=spread["unit"],
        groups=spread["group"],
        delta=spread["delta"],
        frame=frame,
        rotation=rotations.pop() if rotations else "none",
        hz=hz,
    )


def _features(table, recipe, cameras):
    features = {}
    for c in table:
        features[c.part.key] = Feature("number", (c.part.width,) if c.part.width else (), c.dtype)
    for key in recipe.language:
        features[key] = Feature("number", (512,), "int32") if recipe.codepoints else Feature("text", (), "")
    for view in cameras.values():
        features[f"observation/{view.rgb}"] = Feature("picture", RGB_SHAPE, "uint8")
        if view.depth:
            shape = (None, None, 1) if view.depth.picture or view.depth.channel else (None, None)
            kind = "picture" if view.depth.picture else "number"
            features[f"observation/{view.depth.key}"] = Feature(kind, shape, view.depth.dtype)
    return features
