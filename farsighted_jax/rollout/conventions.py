"""What benchmarks do differently from us: grippers, controllers, cameras, depth, states. Pure numpy.

Ours: gripper 1 = open and 0 = closed, metres and radians a step, images upright, depth in metres.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from farsighted_jax.core.rotations import axis_angle_from_quat, matrix_from_quat, rpy_from_matrix, xyzw
from farsighted_jax.core.spec import CameraSpec


class Gripper(NamedTuple):
    """The two ends of a gripper's command."""

    open: float
    closed: float


OURS = Gripper(1.0, 0.0)
# SimplerEnv's WidowX takes a position; its Google Robot takes a change, which is held for 15 steps.
GRIPPERS = {
    "libero": Gripper(-1.0, 1.0),
    "calvin": Gripper(1.0, -1.0),
    "simpler_widowx": Gripper(1.0, -1.0),
    "simpler_google": Gripper(-1.0, 1.0),
    "openpi": Gripper(0.0, 1.0),
}


class Controller(NamedTuple):
    """What a command of 1 does in one step; commands lie within [-1, 1]."""

    metres: float
    radians: float


CONTROLLERS = {
    # robosuite's OSC_POSE.
    "libero": Controller(0.05, 0.5),
    # `rel_actions`: changes times 50 and 20.
    "calvin": Controller(1 / 50, 1 / 20),
}

# BridgeData measures the hand's rotation from one that points down, not from the robot's base.
_BRIDGE_HAND_DOWN = np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]])


def gripper(value: np.ndarray, source: Gripper, target: Gripper, *, binary: bool = False) -> np.ndarray:
    """A gripper's command in another's convention.

    Args:
      value: float[...] in the convention of `source`.
      source: what it means there.
      target: what it shall mean.
      binary: give one of the two ends, the nearer one, and the closed one at the middle.

    Returns:
      float64[...]; what lies beyond an end stays there.
    """
    opening = np.clip((np.asarray(value, np.float64) - source.closed) / (source.open - source.closed), 0, 1)
    if binary:
        return np.where(opening > 0.5, target.open, target.closed)
    return target.closed + opening * (target.open - target.closed)


def commanded(move: np.ndarray, controller: Controller) -> np.ndarray:
    """Changes float[..., 6] in metres and radians as commands of a controller, clipped to [-1, 1]."""
    return np.clip(np.asarray(move, np.float64) / _step(controller), -1, 1)


def moved(command: np.ndarray, controller: Controller) -> np.ndarray:
    """Commands float[..., 6] of a controller, clipped to [-1, 1], as changes in metres and radians."""
    return np.clip(np.asarray(command, np.float64), -1, 1) * _step(controller)


def turned(image: np.ndarray) -> np.ndarray:
    """An image [H, W, ...] turned by 180 degrees, as both of LIBERO's cameras have to be.

    The field turns them, datasets and evaluations alike. robosuite's pictures begin with the lowest row, so
    that a turn in place of a flip leaves them mirrored: what stands on the left is on the right.
    """
    return np.ascontiguousarray(image[::-1, ::-1])


def as_stored(upright: np.ndarray, camera: CameraSpec) -> np.ndarray:
    """An upright image or depth map the way the dataset of a policy stores it, which the policy undoes."""
    return turned(upright) if camera.rotate_180 else upright


def metres(z_buffer: np.ndarray, near: float, far: float) -> np.ndarray:
    """Distances along the optical axis from an OpenGL depth buffer, as MuJoCo and PyBullet give it.

    Args:
      z_buffer: float[H, W] within [0, 1]; 1 is the far plane.
      near: metres to the near plane; in MuJoCo `model.vis.map.znear * model.stat.extent`.
      far: metres to the far plane.

    Returns:
      float32[H, W]; inf at the far plane, where there is nothing.
    """
    z_buffer = np.asarray(z_buffer, np.float64)
    depth = near / (1.0 - z_buffer * (1.0 - near / far))
    return np.where(z_buffer < 1.0, depth, np.inf).astype(np.float32)


def libero_state(position: np.ndarray, quat: np.ndarray, fingers: np.ndarray) -> np.ndarray:
    """LIBERO's state float32[8]: the hand's place, its rotation as axis and angle, both fingers.

    Args:
      position: float[3], `robot0_eef_pos`.
      quat: float[4], `robot0_eef_quat`, (x, y, z, w).
      fingers: float[2], `robot0_gripper_qpos`.
    """
    turn = axis_angle_from_quat(quat, shortest=False)
    return np.concatenate([position, turn, fingers]).astype(np.float32)


def bridge_state(pose: np.ndarray) -> np.ndarray:
    """BridgeData's state float32[7] from SimplerEnv's.

    Args:
      pose: float[8], of the hand in the robot's base: place, quaternion (w, x, y, z), opening of the gripper.

    Returns:
      Place, roll, pitch and yaw from a hand that points down, opening.
    """
    pose = np.asarray(pose, np.float64)
    rotation = matrix_from_quat(xyzw(pose[3:7])) @ _BRIDGE_HAND_DOWN.T
    return np.concatenate([pose[:3], rpy_from_matrix(rotation), pose[7:]]).astype(np.float32)


def fractal_state(pose: np.ndarray) -> np.ndarray:
    """The Google Robot's state float32[8] from SimplerEnv's, see `bridge_state`.

    Returns:
      Place, quaternion (x, y, z, w), how far the gripper is closed.
    """
    pose = np.asarray(pose, np.float64)
    return np.concatenate([pose[:3], xyzw(pose[3:7]), 1 - pose[7:]]).astype(np.float32)


def _step(controller):
    return np.repeat(controller, 3)
