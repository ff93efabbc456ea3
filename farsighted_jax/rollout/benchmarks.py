"""Benchmarks that `vla-eval` runs: what they call things, against what a policy is shown and gives.

Facts as of vla-eval 0.8.0, whose benchmarks send {"images": {key: image}, "task_description": text, "states":
numbers} and turn LIBERO's pictures themselves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.rollout import conventions
from farsighted_jax.rollout.action_map import action_map
from farsighted_jax.rollout.calvin_score import HZ as CALVIN_HZ
from farsighted_jax.rollout.conventions import CONTROLLERS, GRIPPERS, OURS, Controller, Gripper
from farsighted_jax.rollout.environment import RolloutError

IMAGES, STATE, INSTRUCTION, BEGINS = "images", "states", "task_description", "episode_restart"

_XYZ, _RPY, _TURN = ("x", "y", "z"), ("roll", "pitch", "yaw"), ("rx", "ry", "rz")


@dataclasses.dataclass(frozen=True)
class Benchmark:
    """One row.

    Attributes:
      cameras: role -> key of its image.
      action: what it takes.
      state_width: numbers in its state.
      state: makes the state of the policy's dataset of it, or None where that is the same.
      controller: what a change of 1 without a unit means in its datasets, or None where they have units.
      adds_angles: see `action_map`.
      settings: of the benchmark, always.
      wrist_settings: of the benchmark, for a policy that sees the wrist camera.
      state_settings: of the benchmark, for a policy that reads the state.
    """

    cameras: Mapping[str, str]
    action: ActionSpec
    state_width: int
    state: Callable[[np.ndarray], np.ndarray] | None = None
    controller: Controller | None = None
    adds_angles: bool = False
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    wrist_settings: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"send_wrist_image": True})
    state_settings: Mapping[str, Any] = dataclasses.field(default_factory=lambda: {"send_state": True})

    def actions_of(self, spec: ActionSpec) -> Callable[[np.ndarray], np.ndarray]:
        """The map from actions of a policy, see `action_map`."""
        return action_map(spec, self.action, controller=self.controller, adds_angles=self.adds_angles)

    def settings_for(self, policy: Any) -> dict[str, Any]:
        """What a benchmark is asked to send to a `serving.policy.Policy`.

        Raises:
          RolloutError: the policy sees a camera that the benchmark lacks.
        """
        if missing := [role for role in policy.cameras if role not in self.cameras]:
            raise RolloutError(
                f"the policy sees camera(s) {missing}, the benchmark has {sorted(self.cameras)}"
            )
        return {
            **self.settings,
            **(self.wrist_settings if "wrist" in policy.cameras else {}),
            **(self.state_settings if "state" in policy.keys else {}),
        }


def hand_action(
    hz: float, rotation: str, ends: Gripper, *, units: tuple[str, str] = ("m", "rad"), frame: str = "base"
) -> ActionSpec:
    """Changes of a hand's place and rotation a step, and its gripper's command."""
    turn = _RPY if rotation == "rpy" else _TURN
    return ActionSpec(
        names=(*_XYZ, *turn, "gripper"),
        units=(units[0],) * 3 + (units[1],) * 3 + ("1",),
        groups=("translation",) * 3 + ("rotation",) * 3 + ("gripper",),
        delta=(True,) * 6 + (False,),
        frame=frame,
        rotation=rotation,
        hz=hz,
        gripper_open=ends.open,
        gripper_closed=ends.closed,
    )


LIBERO_ACTION = hand_action(20, "axis_angle", GRIPPERS["libero"], units=("1", "1"))

BENCHMARKS = {
    # Rotations as axis and angle of up to 2 pi, as LIBERO's datasets have them.
    "libero": Benchmark(
        cameras={"primary": "agentview", "wrist": "wrist"},
        action=LIBERO_ACTION,
        controller=CONTROLLERS["libero"],
        state_width=8,
        state_settings={"send_state": True, "quat_no_antipodal": True},
    ),
    # It adds metres and radians to the last command itself; the state is pose, opening, last command.
    "calvin": Benchmark(
        cameras={"primary": "rgb_static", "wrist": "rgb_gripper"},
        action=hand_action(CALVIN_HZ, "rpy", GRIPPERS["calvin"], frame="world"),
        controller=CONTROLLERS["calvin"],
        adds_angles=True,
        state_width=8,
    ),
    # Grippers from 0 to 1 = open: each is brought to what its robot takes over there.
    "simpler-widowx": Benchmark(
        cameras={"primary": "primary"},
        action=hand_action(5, "axis_angle", OURS),
        state_width=8,
        state=conventions.bridge_state,
    ),
    "simpler-google": Benchmark(
        cameras={"primary": "primary"},
        action=hand_action(3, "axis_angle", OURS),
        state_width=8,
        state=conventions.fractal_state,
        settings={"gripper_mode": "sticky"},
    ),
}


def observed(benchmark: Benchmark, policy: Any, message: Mapping[str, Any]) -> dict[str, Any]:
    """A benchmark's observation as a policy reads it, see `serving.observation`.

    Raises:
      RolloutError: names a key that is missing or not what it should be.
    """
    images, rgb = _part(message, IMAGES, Mapping), {}
    for role in policy.cameras:
        key = benchmark.cameras[role]
        image = images.get(key)
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3:
            raise RolloutError(f"{IMAGES!r}: {key!r} is {_told(image)}, expected an image uint8[H, W, 3]")
        rgb[role] = conventions.as_stored(image, policy.spec.camera(role))
    observation: dict[str, Any] = {"rgb": rgb}
    if "state" in policy.keys:
        state = np.asarray(_part(message, STATE, (np.ndarray, list)), np.float64)
        if state.shape != (benchmark.state_width,):
            raise RolloutError(f"{STATE!r} is {_told(state)}, expected {benchmark.state_width} numbers")
        observation["state"] = benchmark.state(state) if benchmark.state else state.astype(np.float32)
    if "instruction" in policy.keys:
        observation["instruction"] = _part(message, INSTRUCTION, str)
    return observation


def _part(message, key, kind):
    value = message.get(key)
    if not isinstance(value, kind):
        raise RolloutError(f"{key!r} is {_told(value)}; it has {sorted(map(str, message))}")
    return value


def _told(value):
    if value is None:
        return "missing"
    return (
        f"{value.dtype}{list(value.shape)}" if isinstance(value, np.ndarray) else f"a {type(value).__name__}"
    )
