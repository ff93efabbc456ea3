"""Stands in for `serving.policy.Policy`: what it sees can be read off its actions."""

import numpy as np

from farsighted_jax.core.spec import CameraSpec, DatasetSpec
from farsighted_jax.rollout.benchmarks import hand_action
from farsighted_jax.rollout.conventions import OURS
from farsighted_jax.serving.history import FrameHistory
from farsighted_jax.serving.observation import ObservationError


class ActingPolicy:
    """Action i of a chunk has i in x, the first pixel in y, and how many frames it sees in z, each of 100."""

    def __init__(
        self,
        *,
        cameras=("primary",),
        keys=("rgb", "instruction"),
        horizon=6,
        history=(0,),
        hz=20,
        rotation="rpy",
        rotate_180=False,
        units=("m", "rad"),
    ):
        self.cameras, self.keys, self.horizon, self.history_steps = cameras, keys, horizon, history
        self.depth_cameras, self.groups = (), ("context", "action")
        self.spec = DatasetSpec(
            name="toy",
            hz=hz,
            cameras=tuple(CameraSpec(role, role, rotate_180=rotate_180) for role in cameras),
            action=hand_action(hz, rotation, OURS, units=units),
        )
        self.batches, self.seen, self.poison = [], [], None

    def history(self):
        return FrameHistory(self.history_steps)

    def __call__(self, observations, *, seed=0):
        self.batches.append((len(observations), seed))
        self.seen += observations
        action_BJM = np.zeros((len(observations), self.horizon, 7), np.float32)
        for row, observation in enumerate(observations):
            if observation["instruction"] == "unreadable":
                raise ObservationError("'instruction' is unreadable")
            frames = observation["rgb"]["primary"]
            action_BJM[row, :, 0] = np.arange(self.horizon) / 100
            action_BJM[row, :, 1] = frames[-1, 0, 0, 0] / 100
            action_BJM[row, :, 2] = len(frames) / 100
            action_BJM[row, :, 6] = 1
        if self.poison is not None:
            action_BJM[..., 3] = self.poison
        return action_BJM
