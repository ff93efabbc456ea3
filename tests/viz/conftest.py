"""A batch of textured squares that move, with depth, and a prediction that is nearly right."""

import numpy as np
import pytest


def moving_squares(num=5, frames=3, size=32):
    rng = np.random.default_rng(0)
    rgb = np.full((num, frames, size, size, 3), 90, np.uint8)
    depth = np.zeros((num, frames, size, size, 1), np.float32)
    for b in range(num):
        texture = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        for t in range(frames):
            rgb[b, t, 8 + 2 * t : 16 + 2 * t, 8 + b : 16 + b] = texture
            depth[b, t, 8 + 2 * t : 16 + 2 * t, 8 + b : 16 + b] = -1.0
    return {
        "rgb": rgb,
        "depth": depth,
        "depth_valid": rng.random(depth.shape) < 0.9,
        "depth_center": np.full(num, 0.3, np.float32),
        "depth_scale": np.full(num, 0.4, np.float32),
        "time_s": np.tile(np.arange(frames, dtype=np.float32) * np.float32(0.2), (num, 1)),
        "frame_valid": np.ones((num, frames), bool),
        "dataset": np.zeros(num, np.int32),
        "episode": np.arange(num, dtype=np.int32),
        "step": np.zeros(num, np.int32),
    }


@pytest.fixture
def squares():
    return moving_squares()


@pytest.fixture
def predictions(squares):
    rng = np.random.default_rng(1)
    rgb = squares["rgb"][:, 1:] / 255.0
    noise = rng.normal(scale=0.05, size=rgb.shape)
    depth = squares["depth"][:, 1:] + rng.normal(scale=0.1, size=squares["depth"][:, 1:].shape)
    return {"rgb": (rgb + noise).astype(np.float32), "depth": depth.astype(np.float32)}
