"""Procedural scenes with known motion, depth and actions.

An episode shows textured shapes on a textured ground. One shape, the actor,
moves by the action of each step; its look is the same in every episode, as a
robot arm's is. Every pixel follows from (level, split, seed, episode), texture
and motion are analytic, so frames are exact at sub-pixel positions. Levels are
fixed here because figures are compared with each other:

  easy: three still shapes and the actor, no disturbance. For tests.
  hard: the actor moves up to 6 px a step in 2-D; an equally large distractor
    moves independently of the actions; the camera shakes by up to 3 px; shapes
    occlude each other by depth; the textures of `val` belong to families that
    `train` never shows. For figures.
  long: as hard, but five times as long and half as fast, for frames that lie far apart.
  screen: texture that moves without geometry. In place of the distractor a flat still
    screen shows a picture that moves; depth says that only the actor moves.
  bare: geometry without texture. Ground, shapes and actor are of one flat
    colour, the shapes by 6 % darker; what moves is plain in depth alone.
  circle: what can be foreseen. The camera and the distractor stand still and the actor circles the
    distractor, in the direction that the instruction names; in all other levels the actor walks and the
    camera shakes at random, so that what comes next stands nowhere. For policies.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np

HZ = 5.0
ACTION_NAMES = ("x", "y")
TEXTURE_FAMILIES = {"train": ("waves", "stripes", "plaid"), "val": ("checker", "rings")}
ACTOR_DEPTH_M, DISTRACTOR_DEPTH_M, SCREEN_DEPTH_M = 1.2, 1.35, 1.95
MAT_MARGIN = 0.08  # of the image
WOBBLE = 0.5  # px that an orbit strays from its circle
TABLE_COLOR = np.array([0.24, 0.22, 0.20])


@dataclasses.dataclass(frozen=True)
class Level:
    """What a level contains; lengths in pixels, steps in frames."""

    resolution: int
    num_steps: int
    num_objects: int
    object_radius: tuple[float, float]
    actor_radius: float
    max_speed: float
    max_shake: float
    has_distractor: bool
    screen_radius: float = 0.0  # 0: no screen
    shade: float = 0.0  # brightness of all shapes, the ground's being 1; 0: everything has a texture
    orbit_radius: float = 0.0  # of the actor's path around the distractor; 0: both walk at random


LEVELS = {
    "easy": Level(32, 12, 3, (3.0, 5.0), 4.0, 3.0, 0.0, False),
    "hard": Level(64, 16, 4, (6.0, 10.0), 8.0, 6.0, 3.0, True),
    "long": Level(64, 80, 4, (6.0, 10.0), 8.0, 3.0, 3.0, True),
    "screen": Level(64, 16, 4, (6.0, 10.0), 8.0, 6.0, 3.0, False, screen_radius=18.0),
    "bare": Level(64, 16, 4, (6.0, 10.0), 8.0, 6.0, 3.0, False, shade=0.94),
    "circle": Level(64, 16, 3, (6.0, 10.0), 6.0, 5.0, 0.0, True, orbit_radius=15.0),
}


@dataclasses.dataclass(frozen=True)
class Episode:
    """One rendered episode of T steps.

    Attributes:
      rgb_THWC: uint8 frames.
      depth_THW: float32 metres, no holes.
      action_TM: float32 displacement of the actor (x right, y down, px) from
        this frame to the next; the last one is executed after the last frame.
      position_TM: float32 position of the actor on the ground (px), camera shake not included.
      shake_TM: float32 camera offset of each frame (px).
      distractor_TM: float32 position of the distractor (px), or of the picture on the screen; the
        actor's own where there is neither.
    """

    rgb_THWC: np.ndarray
    depth_THW: np.ndarray
    action_TM: np.ndarray
    position_TM: np.ndarray
    shake_TM: np.ndarray
    distractor_TM: np.ndarray


def render_episode(level: str, split: str, seed: int, index: int, num_steps: int = 0) -> Episode:
    """Renders episode `index` of a split.

    Args:
      level: key of `LEVELS`.
      split: "train" or "val"; decides the texture families.
      seed: of the whole dataset.
      index: of the episode; its content does not depend on any other.
      num_steps: of the episode; 0 for the level's own.

    Raises:
      ValueError: an unknown level or split.
    """
    scene = _scene(level, split, seed, index, num_steps)
    size = LEVELS[level]
    rgb, depth = [], []
    for step in range(len(scene.position_TM)):
        moving = [dataclasses.replace(scene.actor, center=scene.position_TM[step])]
        if size.has_distractor:
            moving.append(dataclasses.replace(scene.distractor, center=scene.distractor_TM[step]))
        still = [
            dataclasses.replace(shape, drift=scene.distractor_TM[step]) if shape.is_screen else shape
            for shape in scene.shapes
        ]
        rgb_HWC, depth_HW = _rendered(size.resolution, scene.ground, still + moving, scene.shake_TM[step])
        rgb.append(rgb_HWC)
        depth.append(depth_HW)
    moved = scene.distractor_TM if size.has_distractor or size.screen_radius else scene.position_TM
    return Episode(
        np.stack(rgb),
        np.stack(depth),
        scene.action_TM.astype(np.float32),
        scene.position_TM.astype(np.float32),
        scene.shake_TM.astype(np.float32),
        moved.astype(np.float32),
    )


def actor_path(level: str, split: str, seed: int, index: int, num_steps: int = 0) -> np.ndarray:
    """`Episode.position_TM` of an episode that is not rendered.

    Raises:
      ValueError: an unknown level or split.
    """
    return _scene(level, split, seed, index, num_steps).position_TM.astype(np.float32)


def instruction(level: str, index: int) -> str:
    """The instruction of an episode; says what to do, not where."""
    if LEVELS[level].orbit_radius:
        return f"circle the blue disc {('counterclockwise', 'clockwise')[_is_clockwise(index)]}"
    return ("move the orange block", "push the orange block around", "slide the block over the table")[
        index % 3
    ]


class _Scene(NamedTuple):
    """What an episode shows and how it moves, before any pixel is painted."""

    ground: _Ground
    shapes: list[_Shape]
    actor: _Shape
    distractor: _Shape
    position_TM: np.ndarray
    action_TM: np.ndarray
    distractor_TM: np.ndarray
    shake_TM: np.ndarray


def _scene(level, split, seed, index, num_steps):
    if level not in LEVELS or split not in TEXTURE_FAMILIES:
        raise ValueError(
            f"no synthetic level {level!r}, split {split!r}; "
            f"levels: {sorted(LEVELS)}, splits: {sorted(TEXTURE_FAMILIES)}"
        )
    size = LEVELS[level]
    size = dataclasses.replace(size, num_steps=num_steps or size.num_steps)
    rng = np.random.default_rng([seed, list(TEXTURE_FAMILIES).index(split), index])
    families = TEXTURE_FAMILIES[split]
    ground = _Ground(_Texture.draw(rng, families, contrast=0.15, cycles=(1.5, 4.0)), slope=-0.6)
    shapes = [_still_shape(rng, size, families) for _ in range(size.num_objects)]
    if size.orbit_radius:
        position_TM, action_TM, distractor_TM = _orbit(rng, size, _is_clockwise(index))
    else:
        position_TM, action_TM = _walk(rng, size)
        distractor_TM, _ = _walk(rng, size)
    actor = _Shape(_Texture.actor(), "square", size.actor_radius, ACTOR_DEPTH_M, position_TM[0])
    other = _Shape(
        _Texture.distractor(rng, families), "disc", size.actor_radius, DISTRACTOR_DEPTH_M, distractor_TM[0]
    )
    shake_TM = rng.uniform(-size.max_shake, size.max_shake, (size.num_steps, 2))
    if size.screen_radius:
        shapes.append(_screen(rng, size, families))
    if size.shade:
        ground, (actor, *shapes) = _bare(ground, [actor, *shapes], size.shade)
    return _Scene(ground, shapes, actor, other, position_TM, action_TM, distractor_TM, shake_TM)


def _walk(rng, size):
    """Positions float64[T, 2] inside the frame and the displacement after each of them."""
    low, high = size.actor_radius, size.resolution - size.actor_radius
    position = rng.uniform(low + 2, high - 2, 2)
    positions, actions = [], []
    for _ in range(size.num_steps):
        reach_low = np.maximum(-size.max_speed, low - position)
        reach_high = np.minimum(size.max_speed, high - position)
        action = rng.uniform(reach_low, reach_high)
        positions.append(position)
        actions.append(action)
        position = position + action
    return np.stack(positions), np.stack(actions)


def _is_clockwise(index):
    return index % 2 == 0


def _orbit(rng, size, clockwise):
    """Positions float64[T, 2] around a still centre, the displacement after each, and the centre, T times."""
    margin = size.orbit_radius + size.actor_radius + WOBBLE
    center = rng.uniform(margin, size.resolution - margin, 2)
    angle = rng.uniform(0, 2 * np.pi)
    # As y points down, angles grow clockwise.
    turn = size.max_speed / size.orbit_radius * (1 if clockwise else -1)
    angle_S = angle + turn * np.arange(size.num_steps + 1)
    circle_SM = center + size.orbit_radius * np.stack([np.cos(angle_S), np.sin(angle_S)], axis=1)
    position_SM = circle_SM + rng.uniform(-WOBBLE, WOBBLE, circle_SM.shape)
    return position_SM[:-1], np.diff(position_SM, axis=0), np.tile(center, (size.num_steps, 1))


def _still_shape(rng, size, families):
    radius = rng.uniform(*size.object_radius)
    kind = ("disc", "square", "diamond")[rng.integers(3)]
    center = rng.uniform(radius, size.resolution - radius, 2)
    # As under a camera, what is near is large; this also decides what hides the actor.
    depth_m = 1.9 - 1.2 * (radius - size.object_radius[0]) / (size.object_radius[1] - size.object_radius[0])
    return _Shape(_Texture.draw(rng, families, contrast=0.6), kind, radius, depth_m, center)


def _screen(rng, size, families):
    """A still plane behind all shapes; its picture moves, see `_Shape.drift`."""
    center = rng.uniform(size.screen_radius, size.resolution - size.screen_radius, 2)
    picture = _Texture.distractor(rng, families)
    return _Shape(picture, "square", size.screen_radius, SCREEN_DEPTH_M, center, is_screen=True)


def _bare(ground, shapes, shade):
    """Ground and shapes in one flat colour each, the mean of the ground's."""
    color = ground.texture.colors.mean(axis=0)
    flat = [dataclasses.replace(shape, texture=shape.texture.flat(shade * color)) for shape in shapes]
    return dataclasses.replace(ground, texture=ground.texture.flat(color)), flat


def _rendered(resolution, ground, shapes, shake_M):
    """Paints from far to near; uint8[H, W, 3] and float32[H, W] metres."""
    axis = np.arange(resolution) + 0.5
    x_HW, y_HW = np.meshgrid(axis - shake_M[0], axis - shake_M[1])
    rgb_HWC, depth_HW = ground.painted(x_HW / resolution, y_HW / resolution)
    for shape in sorted(shapes, key=lambda shape: -shape.depth_m):
        dx_HW, dy_HW = x_HW - shape.center[0], y_HW - shape.center[1]
        cover_HW = shape.coverage(dx_HW, dy_HW)
        u_HW, v_HW = dx_HW - shape.drift[0], dy_HW - shape.drift[1]
        color_HWC = shape.texture.color(u_HW / resolution, v_HW / resolution)
        rgb_HWC = rgb_HWC + cover_HW[..., None] * (color_HWC - rgb_HWC)
        depth_HW = np.where(cover_HW > 0.5, shape.depth_m, depth_HW)
    return np.round(255 * np.clip(rgb_HWC, 0, 1)).astype(np.uint8), depth_HW.astype(np.float32)


@dataclasses.dataclass(frozen=True)
class _Texture:
    """An analytic pattern between two colours; coordinates are fractions of the image."""

    family: str
    colors: np.ndarray
    frequency: np.ndarray
    phase: np.ndarray

    @classmethod
    def draw(cls, rng, families, contrast, cycles=(3.0, 7.0)):
        # Muted: much of a pattern is brightness, little is colour.
        middle = rng.uniform(0.35, 0.65) + rng.uniform(-0.1, 0.1, 3)
        swing = (rng.uniform(0.5, 1) + rng.uniform(-0.15, 0.15, 3)) * contrast / 2
        frequency = rng.uniform(*cycles, 2) * rng.choice([-1, 1], 2)
        family = families[rng.integers(len(families))]
        return cls(family, np.stack([middle - swing, middle + swing]), frequency, rng.uniform(0, 1, 2))

    @classmethod
    def actor(cls):
        return cls(
            "rings",
            np.array([[0.95, 0.45, 0.05], [0.99, 0.75, 0.35]]),
            np.array([6.0, 6.0]),
            np.array([0.2, 0.0]),
        )

    @classmethod
    def distractor(cls, rng, families):
        return dataclasses.replace(
            cls.draw(rng, families, 0.0), colors=np.array([[0.10, 0.25, 0.85], [0.35, 0.65, 0.95]])
        )

    def flat(self, color):
        return dataclasses.replace(self, colors=np.stack([color, color]))

    def color(self, x_HW, y_HW):
        u, v = self.frequency[0] * x_HW + self.phase[0], self.frequency[1] * y_HW + self.phase[1]
        wave = _PATTERNS[self.family](u, v)[..., None]
        return self.colors[0] + (0.5 + 0.5 * wave) * (self.colors[1] - self.colors[0])


def _sine(value):
    return np.sin(2 * np.pi * value)


# Each maps two phases to a height within [-1, 1].
_PATTERNS = {
    "waves": lambda u, v: 0.5 * (_sine(u) + _sine(v)),
    "stripes": lambda u, v: np.tanh(3 * _sine(u + v)),
    "plaid": lambda u, v: np.maximum(_sine(u), _sine(v)),
    "checker": lambda u, v: np.tanh(4 * _sine(u) * _sine(v)),
    "rings": lambda u, v: _sine(np.hypot(u, v)),
}


@dataclasses.dataclass(frozen=True)
class _Ground:
    texture: _Texture
    slope: float

    def painted(self, x_HW, y_HW):
        """Colour and depth; the mat ends `MAT_MARGIN` before the frame does, behind it the table is dark."""
        edge_HW = np.minimum(np.minimum(x_HW, 1 - x_HW), np.minimum(y_HW, 1 - y_HW))
        mat_HW = np.clip((edge_HW - MAT_MARGIN) * len(x_HW) + 0.5, 0, 1)[..., None]
        color_HWC = TABLE_COLOR + mat_HW * (self.texture.color(x_HW, y_HW) - TABLE_COLOR)
        return color_HWC, 2.3 + self.slope * (y_HW - 0.5)


@dataclasses.dataclass(frozen=True)
class _Shape:
    texture: _Texture
    kind: str
    radius: float
    depth_m: float
    center: np.ndarray
    is_screen: bool = False
    drift: tuple[float, float] = (0.0, 0.0)  # px that the texture has moved within the shape

    def coverage(self, dx_HW, dy_HW):
        """Fraction of each pixel inside the shape, from the signed distance to its edge."""
        if self.kind == "disc":
            distance = np.hypot(dx_HW, dy_HW)
        elif self.kind == "square":
            distance = np.maximum(np.abs(dx_HW), np.abs(dy_HW))
        else:
            distance = (np.abs(dx_HW) + np.abs(dy_HW)) / np.sqrt(2)
        return np.clip(self.radius - distance + 0.5, 0, 1)
