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
        groups=("context", "action"),
    ):
        self.cameras, self.keys, self.horizon, self.history_steps = cameras, keys, horizon, history
        self.depth_cameras, self.groups = (), groups
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
        return self.compute("actions", self.read(observations), seed=seed)

    def read(self, observations):
        self.seen += observations
        rows = []
        for observation in observations:
            if observation["instruction"] == "unreadable":
                raise ObservationError("'instruction' is unreadable")
            frames = observation["rgb"]["primary"]
            frames = frames if frames.ndim == 4 else frames[None]
            rows.append([frames[-1, 0, 0, 0], len(frames)])
        return {"pixel_and_frames": np.array(rows)}

    def blank(self):
        images = {role: np.zeros((4, 4, 3), np.uint8) for role in self.cameras}
        return {"rgb": images, "state": np.zeros(8), "instruction": ""}

    def compute(self, name, batch, *, seed=0):
        rows = batch["pixel_and_frames"]
        if name != "actions":
            return np.repeat(rows[:, :1], 3, axis=1) / {"plan": 1, "imagined": 255}[name]
        self.batches.append((len(rows), seed))
        action_BJM = np.zeros((len(rows), self.horizon, 7), np.float32)
        action_BJM[..., 0] = np.arange(self.horizon) / 100
        action_BJM[..., 1:3] = rows[:, None] / 100
        action_BJM[..., 6] = 1
        if self.poison is not None:
            action_BJM[..., 3] = self.poison
        return action_BJM
