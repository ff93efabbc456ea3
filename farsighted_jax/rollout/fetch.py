"""gymnasium-robotics' Fetch tasks as an environment: a hand that keeps its rotation, a table, and a block.

A cheap second simulator beside Meta-World, rendered as `mujoco_pictures` says. FetchSlide is left out: the
puck has to be hit, which the scripted expert does not do.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec
from farsighted_jax.rollout import fetch_expert, mujoco_pictures
from farsighted_jax.rollout.environment import RolloutError, View

HZ = 25
# Steps after which an episode has failed, as the package registers them; success at any of them counts.
MAX_STEPS = 50
STATE_NAMES = ("hand_x", "hand_y", "hand_z", "gripper_opening")
# Role -> camera of the model, or where a free one stands (metres, degrees). The hand's own sees no task.
CAMERAS: dict[str, Any] = {
    "primary": {"lookat": [1.3, 0.75, 0.52], "distance": 0.9, "azimuth": 132.0, "elevation": -25.0},
    "secondary": "external_camera_0",
}
DEPTH_UNIT_M = 0.001
DEPTH_MAX_M = 3.0
PACKAGES = ("gymnasium-robotics", "gymnasium", "mujoco", "numpy")
INSTRUCTIONS = {
    "reach": ("move the gripper to the red ball", "reach the red ball", "go to the red target"),
    "push": (
        "push the black block to the red ball",
        "slide the block onto the red target",
        "move the black block across the table to the red ball",
    ),
    "pick-and-place": (
        "pick up the black block and bring it to the red ball",
        "grasp the block and hold it at the red target",
        "carry the black block to the red ball",
    ),
}
TASK_GROUPS = dict.fromkeys(INSTRUCTIONS, "fetch")


def dataset_spec(name: str, cameras: tuple[str, ...] = tuple(CAMERAS)) -> DatasetSpec:
    """What a recording of Fetch means: a translation of 1 is 5 cm a step.

    Args:
      name: of the dataset.
      cameras: roles of those that are recorded.
    """
    keys = {"primary": "image", "secondary": "secondary_image"}
    return DatasetSpec(
        name=name,
        hz=HZ,
        cameras=tuple(
            CameraSpec(
                role,
                f"observation/{keys[role]}",
                f"observation/{keys[role].replace('image', 'depth')}",
                DEPTH_UNIT_M,
                DEPTH_MAX_M,
            )
            for role in cameras
        ),
        action=ActionSpec(
            names=("x", "y", "z", "gripper"),
            units=("1", "1", "1", "1"),
            groups=("translation", "translation", "translation", "gripper"),
            delta=(True, True, True, False),
            frame="world",
            rotation="none",
            hz=HZ,
            gripper_open=fetch_expert.OPEN,
            gripper_closed=fetch_expert.CLOSED,
        ),
        state_key="observation/state",
        state_names=STATE_NAMES,
        language_key="language_instruction",
        source="farsighted_jax/rollout/fetch.py",
    )


def render_settings(resolution: int, cameras: tuple[str, ...]) -> dict[str, Any]:
    """What the pixels depend on, as JSON; see `Fetch` for the arguments."""
    return {
        "versions": mujoco_pictures.versions(PACKAGES),
        "renderer": mujoco_pictures.renderer_name(),
        "resolution": resolution,
        "cameras": {role: CAMERAS[role] for role in cameras},
        **mujoco_pictures.RENDER_SETTINGS,
    }


class Fetch:
    """The tasks of `INSTRUCTIONS`; one is loaded at a time. See `Environment`.

    Args:
      resolution: H = W of the pictures.
      cameras: roles of `CAMERAS` that `view` renders.

    Raises:
      RolloutError: TensorFlow is in this process, or an unknown camera.
    """

    name = "fetch"
    tasks = tuple(INSTRUCTIONS)
    max_steps = MAX_STEPS

    def __init__(self, resolution: int = 96, cameras: tuple[str, ...] = tuple(CAMERAS)):
        mujoco_pictures.choose_renderer("Fetch")
        if unknown := [role for role in cameras if role not in CAMERAS]:
            raise RolloutError(f"Fetch has no camera {unknown}, only {sorted(CAMERAS)}")
        self.settings = render_settings(resolution, cameras)
        self.spec = dataset_spec(self.name, cameras)
        self._resolution, self._cameras = resolution, {role: CAMERAS[role] for role in cameras}
        self._task, self._env, self._pictures = "", None, None

    def instructions(self, task: str) -> tuple[str, ...]:
        """See `Environment`."""
        self._check_task(task)
        return INSTRUCTIONS[task]

    def reset(self, task: str, seed: int) -> None:
        """See `Environment`; `seed` decides where the object and the goal are."""
        self._check_task(task)
        if task != self._task:
            self._load(task)
        self._observation, _ = self._env.reset(seed=seed)
        # Moves the red ball to the goal. The package does so whenever it renders, which changes what follows.
        self._env._render_callback()

    def step(self, action_M: np.ndarray) -> bool:
        """See `Environment`; actions are clipped to [-1, 1]."""
        action_M = np.clip(np.asarray(action_M, np.float64), -1, 1)
        self._observation, _, _, _, info = self._env.step(action_M)
        return bool(info["is_success"])

    def view(self) -> View:
        """See `Environment`. The state is what a robot knows of itself: hand and gripper, no object."""
        rgb, depth = {}, {}
        for role, camera in self._cameras.items():
            rgb[role], depth[role] = self._pictures(self._env.data, _camera(camera))
        hand_3, opening = self._hand()
        return View(rgb, depth, np.array([*hand_3, opening], np.float32))

    def expert(self) -> np.ndarray:
        """See `Environment`; it reads where the object is."""
        (hand_3, opening), goal_3 = self._hand(), self._observation["desired_goal"]
        if self._task == "reach":
            return fetch_expert.reach(hand_3, goal_3)
        object_3 = self._observation["achieved_goal"]
        if self._task == "push":
            return fetch_expert.push(hand_3, object_3, goal_3)
        return fetch_expert.pick_and_place(hand_3, opening, object_3, goal_3)

    def close(self) -> None:
        """See `Environment`."""
        if self._env is not None:
            self._pictures.close()
            self._env.close()
        self._task, self._env = "", None

    def _load(self, task):
        import gymnasium

        # It warns of other environments.
        gymnasium.logger.min_level = gymnasium.logger.ERROR
        from gymnasium_robotics.envs.fetch.pick_and_place import MujocoFetchPickAndPlaceEnv
        from gymnasium_robotics.envs.fetch.push import MujocoFetchPushEnv
        from gymnasium_robotics.envs.fetch.reach import MujocoFetchReachEnv

        self.close()
        environments = {
            "reach": MujocoFetchReachEnv,
            "push": MujocoFetchPushEnv,
            "pick-and-place": MujocoFetchPickAndPlaceEnv,
        }
        self._env = environments[task]()
        self._pictures = mujoco_pictures.Pictures(self._env.model, self._resolution, DEPTH_MAX_M)
        self._task = task

    def _hand(self):
        """Its place, and how far the fingers are apart, in metres."""
        numbers = self._observation["observation"]
        fingers = numbers[3:5] if self._task == "reach" else numbers[9:11]
        return numbers[:3], float(fingers.sum())

    def _check_task(self, task):
        if task not in INSTRUCTIONS:
            raise RolloutError(f"Fetch has no task {task!r}; it has {', '.join(INSTRUCTIONS)}")


def _camera(place):
    """The camera of a name, or a free one."""
    if isinstance(place, str):
        return place
    import mujoco

    camera = mujoco.MjvCamera()
    camera.lookat[:] = place["lookat"]
    for name in ("distance", "azimuth", "elevation"):
        setattr(camera, name, place[name])
    return camera
