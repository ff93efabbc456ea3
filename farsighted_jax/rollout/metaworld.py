"""Meta-World (50 tabletop tasks of a Sawyer arm) as an environment, rendered as `mujoco_pictures` says."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec
from farsighted_jax.rollout import mujoco_pictures
from farsighted_jax.rollout.conventions import turned
from farsighted_jax.rollout.environment import RolloutError, View
from farsighted_jax.rollout.metaworld_tasks import INSTRUCTIONS
from farsighted_jax.rollout.perturbation import Perturbation, Table

HZ = 80
STATE_NAMES = ("hand_x", "hand_y", "hand_z", "gripper_opening")
# Role -> camera of the model. The field moves corner2 closer; it stands upside down.
CAMERAS = {"primary": "corner2", "wrist": "gripperPOV"}
CORNER2_POSITION = (0.75, 0.075, 0.7)
DEPTH_UNIT_M = 0.001
# The background lies 113 m away.
DEPTH_MAX_M = 3.0
# Left and right of what the tasks are about.
TABLE = Table(height_m=0.0, areas=((-0.45, -0.3, 0.5, 0.8), (0.3, 0.45, 0.5, 0.8)))
PACKAGES = ("metaworld", "mujoco", "numpy")


def dataset_spec(name: str, cameras: tuple[str, ...] = tuple(CAMERAS), actions: bool = True) -> DatasetSpec:
    """What a recording of Meta-World means.

    Args:
      name: of the dataset.
      cameras: roles of those that are recorded.
      actions: whether it holds actions.
    """
    action = ActionSpec(
        names=("x", "y", "z", "gripper"),
        units=("cm", "cm", "cm", "1"),
        groups=("translation", "translation", "translation", "gripper"),
        delta=(True, True, True, False),
        frame="world",
        rotation="none",
        hz=HZ,
        gripper_open=-1.0,
        gripper_closed=1.0,
    )
    keys = {"primary": "image", "wrist": "wrist_image"}
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
        action=action if actions else None,
        state_key="observation/state",
        state_names=STATE_NAMES,
        language_key="language_instruction",
        source="farsighted_jax/rollout/metaworld.py",
    )


def render_settings(
    resolution: int, cameras: tuple[str, ...], perturb: tuple[str, ...] = ()
) -> dict[str, Any]:
    """What the pixels depend on, as JSON; see `MetaWorld` for the arguments."""
    return {
        **({"perturbations": list(perturb)} if perturb else {}),
        "versions": mujoco_pictures.versions(PACKAGES),
        "renderer": mujoco_pictures.renderer_name(),
        "resolution": resolution,
        "cameras": {role: CAMERAS[role] for role in cameras},
        "corner2_position": list(CORNER2_POSITION),
        **mujoco_pictures.RENDER_SETTINGS,
    }


class MetaWorld:
    """All 50 tasks; one is loaded at a time. See `Environment`.

    Args:
      resolution: H = W of the pictures.
      cameras: roles of `CAMERAS` that `view` renders.
      perturb: names of `perturbation.NAMES`: what is otherwise in every episode than in a demonstration.

    Raises:
      RolloutError: TensorFlow is in this process, or an unknown camera.
    """

    name = "metaworld"
    tasks = tuple(INSTRUCTIONS)
    max_steps = 500

    def __init__(
        self,
        resolution: int = 96,
        cameras: tuple[str, ...] = tuple(CAMERAS),
        perturb: tuple[str, ...] = (),
    ):
        mujoco_pictures.choose_renderer("Meta-World")
        if unknown := [role for role in cameras if role not in CAMERAS]:
            raise RolloutError(f"Meta-World has no camera {unknown}, only {sorted(CAMERAS)}")
        self.settings = render_settings(resolution, cameras, perturb)
        self.spec = dataset_spec(self.name, cameras)
        self._resolution, self._cameras, self._perturb = resolution, cameras, perturb
        self._task, self._env, self._expert, self._pictures = "", None, None, None

    def instructions(self, task: str) -> tuple[str, ...]:
        """See `Environment`."""
        self._check_task(task)
        return INSTRUCTIONS[task]

    def reset(self, task: str, seed: int) -> None:
        """See `Environment`; `seed` decides where the objects and the goal are."""
        self._check_task(task)
        if task != self._task:
            self._load(task)
        env = self._env
        # `reset(seed=)` is ignored by the package.
        env.seed(seed)
        if self._perturbation:
            self._perturbation.begin(env.model, seed)
        self._observation, _ = env.reset()

    def step(self, action_M: np.ndarray) -> bool:
        """See `Environment`; actions are clipped to [-1, 1]."""
        action_M = np.clip(np.asarray(action_M, np.float32), -1, 1)
        self._observation, _, _, _, info = self._env.step(action_M)
        return bool(info["success"])

    def view(self) -> View:
        """See `Environment`. The state is what a robot knows of itself: hand and gripper, no object."""
        rgb, depth = {}, {}
        for role in self._cameras:
            rgb[role], depth[role] = self._rendered(CAMERAS[role])
        return View(rgb, depth, self._observation[:4].astype(np.float32))

    def expert(self) -> np.ndarray:
        """See `Environment`; it reads where the objects are."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=r"Constant\(s\) may be too high")
            action_M = self._expert.get_action(self._observation)
        return np.clip(action_M, -1, 1).astype(np.float32)

    def close(self) -> None:
        """See `Environment`."""
        if self._env is not None:
            self._pictures.close()
            self._env.close()
        self._task, self._env = "", None

    def _load(self, task):
        import metaworld
        from metaworld.policies import ENV_POLICY_MAP

        self.close()
        self._perturbation = Perturbation(self._perturb, TABLE) if self._perturb else None
        environment = metaworld.ALL_V3_ENVIRONMENTS[f"{task}-v3"]
        self._env = env = (_grown(environment, self._perturbation) if self._perturb else environment)()
        env._freeze_rand_vec, env.seeded_rand_vec, env._set_task_called = False, True, True
        # The expert has to know the goal. The bounds that observations are clipped to were kept without it.
        env._partially_observable = False
        vars(env).pop("sawyer_observation_space", None)
        self._expert = ENV_POLICY_MAP[f"{task}-v3"]()
        env.model.camera("corner2").pos = CORNER2_POSITION
        self._pictures = mujoco_pictures.Pictures(env.model, self._resolution, DEPTH_MAX_M)
        self._task = task

    def _rendered(self, camera):
        rgb_HWC, depth_HW = self._pictures(self._env.data, camera)
        # It stands upside down.
        return (turned(rgb_HWC), turned(depth_HW)) if camera == "corner2" else (rgb_HWC, depth_HW)

    def _check_task(self, task):
        if task not in INSTRUCTIONS:
            raise RolloutError(f"Meta-World has no task {task!r}; it has {', '.join(sorted(INSTRUCTIONS))}")


def _grown(environment, perturbation):
    """The class of a task whose scene has what a perturbation adds."""
    import mujoco

    class Grown(environment):
        def _initialize_simulation(self):
            spec = mujoco.MjSpec.from_file(self.fullpath)
            perturbation.add_to(spec)
            model = spec.compile()
            return model, mujoco.MjData(model)

    return Grown
