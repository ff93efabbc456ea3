"""Pictures of a MuJoCo model: colour and depth, with everything off that is slow in software.

Shadows, reflections and multisampling cost ten times as much on a CPU; demonstrations and evaluation go
without. Mesa and TensorFlow crash in one process, whichever comes first.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
from typing import Any

import numpy as np

from farsighted_jax.rollout.environment import RolloutError

RENDER_SETTINGS = {"shadows": False, "reflections": False, "multisampling": 0}


def renderer_name() -> str:
    """Mesa's, or what `MUJOCO_GL` names: "egl", where there is a GPU's driver."""
    return os.environ.get("MUJOCO_GL", "osmesa")


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions by package."""
    return {package: importlib.metadata.version(package) for package in packages}


def choose_renderer(simulator: str) -> None:
    """Fixes the renderer, which is read when mujoco is imported; RolloutError beside TensorFlow."""
    if "tensorflow" in sys.modules:
        raise RolloutError(f"{simulator}'s renderer and TensorFlow crash in one process; start it in its own")
    os.environ["MUJOCO_GL"] = renderer_name()


class Pictures:
    """Renders one model, which must be closed before another one is rendered.

    Args:
      model: a `mujoco.MjModel`; its quality settings are changed.
      resolution: H = W.
      depth_max_m: what lies beyond counts as not measured.
    """

    def __init__(self, model: Any, resolution: int, depth_max_m: float):
        import mujoco

        model.vis.quality.offsamples = model.vis.quality.shadowsize = 0
        self._depth_max_m, self._renderers = depth_max_m, {}
        for kind in ("rgb", "depth"):
            renderer = mujoco.Renderer(model, resolution, resolution)
            for flag in ("mjRND_SHADOW", "mjRND_REFLECTION"):
                renderer.scene.flags[getattr(mujoco.mjtRndFlag, flag)] = False
            self._renderers[kind] = renderer
        self._renderers["depth"].enable_depth_rendering()

    def __call__(self, data: Any, camera: Any) -> tuple[np.ndarray, np.ndarray]:
        """What a camera sees.

        Args:
          data: a `mujoco.MjData` of the model.
          camera: its name, or a `mujoco.MjvCamera`.

        Returns:
          uint8[H, W, 3], and float32[H, W] metres, inf where nothing was measured.
        """
        pictures = []
        for renderer in self._renderers.values():
            renderer.update_scene(data, camera=camera)
            pictures.append(renderer.render().copy())
        rgb_HWC, depth_HW = pictures
        return rgb_HWC, np.where(depth_HW <= self._depth_max_m, depth_HW, np.inf).astype(np.float32)

    def close(self) -> None:
        """A renderer that outlives the next one draws wrong frames, silently."""
        for renderer in self._renderers.values():
            renderer.close()
        self._renderers = {}
