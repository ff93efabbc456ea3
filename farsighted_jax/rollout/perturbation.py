"""Scenes that no demonstration has shown: other cameras, light, textures, and an object without a purpose.

All of it is done to the MuJoCo model and drawn from the seed of an episode. The object can be seen, but not
touched: with the same actions everything moves as it did.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

NAMES = ("camera", "light", "texture", "distractor")

# Camera: metres along each axis, and degrees about any.
SHIFT_M, TURN_DEG = 0.06, 6.0
# Light: brightness of all, colour, and metres along each axis.
BRIGHTNESS, TINT, LIGHT_SHIFT_M = (0.35, 1.5), (0.7, 1.0), 0.5
# Texture: pattern and marks of MuJoCo, colour, and how often it is repeated.
PATTERNS = (
    ("CHECKER", "NONE"),
    ("CHECKER", "EDGE"),
    ("GRADIENT", "NONE"),
    ("FLAT", "RANDOM"),
    ("FLAT", "CROSS"),
)
TEXTURE_PX, REPEAT, TINT_OF_TEXTURE = 64, 4.0, (0.2, 1.0)
# Distractor: half its size.
SIZE_M = (0.03, 0.06)
DISTRACTOR = "distractor"
# Kinds of texture that surfaces have, by MuJoCo's numbers; the place of colour among those of a material.
_KINDS, _RGB = {0: "2d", 1: "cube"}, 1
# Fields of the model that are drawn from what they were at first.
_FIELDS = ("cam_pos", "cam_quat", "light_pos", "light_diffuse", "light_ambient", "geom_matid")


@dataclasses.dataclass(frozen=True)
class Table:
    """Where a distractor may stand: within one of `areas`, each (x from, x to, y from, y to) in metres."""

    height_m: float
    areas: tuple[tuple[float, float, float, float], ...]


class Perturbation:
    """Changes the scenes of one simulator.

    Args:
      names: some of `NAMES`.
      table: of the simulator.
    """

    def __init__(self, names: tuple[str, ...], table: Table):
        self.names, self._table, self._first = tuple(names), table, None

    def add_to(self, spec: Any) -> None:
        """Adds what the scene lacks to a `mujoco.MjSpec`, before it is compiled."""
        import mujoco

        if "texture" in self.names:
            for number, (builtin, mark) in enumerate(PATTERNS):
                for value, kind in _KINDS.items():
                    name = _unseen(kind, number)
                    spec.add_texture(
                        name=name,
                        type=mujoco.mjtTexture(value),
                        builtin=getattr(mujoco.mjtBuiltin, f"mjBUILTIN_{builtin}"),
                        mark=getattr(mujoco.mjtMark, f"mjMARK_{mark}"),
                        rgb1=[1.0, 1.0, 1.0],
                        rgb2=[0.3, 0.3, 0.3],
                        random=0.05,
                        width=TEXTURE_PX,
                        height=TEXTURE_PX,
                    )
                    textures = [""] * int(mujoco.mjtTextureRole.mjNTEXROLE)
                    textures[_RGB] = name
                    spec.add_material(name=name, textures=textures, texrepeat=[REPEAT, REPEAT])
        if DISTRACTOR in self.names:
            body = spec.worldbody.add_body(name=DISTRACTOR)
            body.add_geom(
                name=DISTRACTOR,
                type=mujoco.mjtGeom.mjGEOM_BOX,
                size=[SIZE_M[0]] * 3,
                contype=0,
                conaffinity=0,
            )

    def begin(self, model: Any, seed: int) -> None:
        """Draws the scene of an episode into a `mujoco.MjModel`, the same one each time."""
        if self._first is None:
            self._first = {field: getattr(model, field).copy() for field in _FIELDS}
            headlight = model.vis.headlight
            self._headlight = {name: getattr(headlight, name).copy() for name in ("ambient", "diffuse")}
        for index, name in enumerate(NAMES):
            if name in self.names:
                getattr(self, f"_{name}")(model, np.random.default_rng([seed, index]))

    def _camera(self, model, rng):
        """Cameras that stand in the world; those on a robot stay."""
        import mujoco

        for camera in np.flatnonzero(model.cam_bodyid == 0):
            shift, axis, angle = rng.uniform(-1, 1, 3), rng.normal(size=3), rng.uniform(-1, 1)
            model.cam_pos[camera] = self._first["cam_pos"][camera] + SHIFT_M * shift
            turn, turned = np.empty(4), np.empty(4)
            mujoco.mju_axisAngle2Quat(turn, axis / np.linalg.norm(axis), np.deg2rad(TURN_DEG) * angle)
            mujoco.mju_mulQuat(turned, turn, self._first["cam_quat"][camera])
            model.cam_quat[camera] = turned

    def _light(self, model, rng):
        color = rng.uniform(*BRIGHTNESS) * rng.uniform(*TINT, size=3)
        shift = rng.uniform(-LIGHT_SHIFT_M, LIGHT_SHIFT_M, self._first["light_pos"].shape)
        model.light_pos[:] = self._first["light_pos"] + shift
        for field in ("light_diffuse", "light_ambient"):
            getattr(model, field)[:] = self._first[field] * color
        for name, first in self._headlight.items():
            getattr(model.vis.headlight, name)[:] = first * color

    def _texture(self, model, rng):
        """Whatever has a texture gets one of those that were added, in another colour."""
        first_G = self._first["geom_matid"]
        for material in np.unique(first_G[first_G >= 0]):
            texture = model.mat_texid[material, _RGB]
            if texture >= 0:
                kind, number = _KINDS[int(model.tex_type[texture])], rng.integers(len(PATTERNS))
                other = model.material(_unseen(kind, number))
                other.rgba[:3] = rng.uniform(*TINT_OF_TEXTURE, size=3)
                model.geom_matid[first_G == material] = other.id

    def _distractor(self, model, rng):
        import mujoco

        geom, body = model.geom(DISTRACTOR), model.body(DISTRACTOR)
        kinds = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_ELLIPSOID)
        geom.type[:] = rng.choice([int(kind) for kind in kinds])
        geom.size[:] = size = rng.uniform(*SIZE_M, size=3)
        # Of a cylinder the second number is half its height.
        half_height = size[1] if geom.type[0] == int(mujoco.mjtGeom.mjGEOM_CYLINDER) else size[2]
        geom.rgba[:] = [*rng.uniform(0, 1, 3), 1]
        x_from, x_to, y_from, y_to = self._table.areas[rng.integers(len(self._table.areas))]
        place = rng.uniform([x_from, y_from], [x_to, y_to])
        body.pos[:] = [*place, self._table.height_m + half_height]
        # What is culled or clipped goes by it.
        model.geom_rbound[geom.id] = np.linalg.norm(size)


def _unseen(kind, number):
    return f"unseen_{kind}_{number}"
