"""A world of gray fields that move by whole levels, and a model that sees and paints motion exactly."""

import numpy as np

from farsighted_jax.core.batch import check
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec
from farsighted_jax.evaluators.base import LatentActionFunctions

V, Z, U, M = 128, 2, 3, 3
SIZE, GAP_S = 4, 0.2


def motion_batch(seed, num=24, t=2, multiple=1, windows=2, first_episode=0, step=2):
    """Channels 0 and 1 walk by random whole levels a step; channel 2 only tells the episode."""
    rng = np.random.default_rng([seed, multiple])
    moves = rng.integers(-step, step + 1, (num, t * multiple, 2))
    position = np.concatenate([np.zeros((num, 1, 2), int), np.cumsum(moves, axis=1)], axis=1)[:, ::multiple]
    rgb = np.zeros((num, t + 1, SIZE, SIZE, 3), np.uint8)
    rgb[..., :2] = (128 + rng.integers(-20, 21, (num, 1, 2)) + position)[:, :, None, None]
    episode = first_episode + np.arange(num) // windows
    rgb[..., 2] = (10 + 3 * episode)[:, None, None, None]
    gripper = rng.normal(size=(num, t, 1))
    batch = {
        "rgb": rgb,
        "time_s": np.tile(np.arange(t + 1, dtype=np.float32) * np.float32(GAP_S * multiple), (num, 1)),
        "frame_valid": np.ones((num, t + 1), bool),
        "action_sum": np.concatenate([0.01 * position[:, 1:], gripper], axis=2).astype(np.float32),
        "action_sum_valid": np.ones((num, t, M), bool),
        "dataset": np.zeros(num, np.int32),
        "episode": episode.astype(np.int32),
        "step": (np.arange(num) % windows).astype(np.int32),
    }
    check(batch)
    return batch


def motion_spec():
    action = ActionSpec(
        names=("x", "y", "grip"),
        units=("m", "m", "1"),
        groups=("translation", "translation", "gripper"),
        delta=(True, True, False),
        frame="base",
        rotation="none",
        hz=5.0,
    )
    return DatasetSpec("moving", 5.0, (CameraSpec("primary", "image"),), action)


def displacement(batch):
    """Levels that channels 0 and 1 moved from frame 0 to frame k, int[B, t, 2]."""
    level = batch["rgb"][:, :, 0, 0, :2].astype(int)
    return level[:, 1:] - level[:, :1]


def model(shaped=lambda moved, batch: moved, paints=True):
    """Slot z holds `shaped` motion of channel z; the decoder moves frame 0 by it, or ignores it."""

    def encode(batch):
        moved = shaped(displacement(batch), batch)
        vector = np.zeros((*moved.shape, U), np.float32)
        vector[..., 0] = moved
        code = np.clip(np.rint(moved).astype(np.int32) + V // 2, 0, V - 1)
        return {"code": code, "encoded": vector, "quantized": vector.copy()}

    def decode(batch, quantized):
        num, t = quantized.shape[:2]
        rgb = np.repeat(batch["rgb"][:, :1] / np.float32(255), t, axis=1)
        if paints:
            rgb[..., :2] += quantized[..., 0][:, :, None, None] / np.float32(255)
        return {"rgb": np.clip(rgb, 0, 1).astype(np.float32)}

    return LatentActionFunctions(encode, decode, V, Z)
