"""Batches with known content and a model that is a few lines of numpy."""

import numpy as np
import pytest

from farsighted_jax.core.batch import check
from farsighted_jax.core.spec import ActionSpec, CameraSpec, DatasetSpec
from farsighted_jax.evaluators.base import LatentActionFunctions

V, Z, U, M = 8, 2, 3, 4


def make_batch(rng, num=6, t=2, size=16, hz=5.0, dataset=0, first_episode=0, depth=True):
    """A valid batch: two windows an episode, actions random, every frame random."""
    clip = t + 1
    batch = {
        "rgb": rng.integers(0, 256, (num, clip, size, size, 3), dtype=np.uint8),
        "time_s": np.tile(np.arange(clip, dtype=np.float32) / np.float32(hz), (num, 1)),
        "frame_valid": np.ones((num, clip), bool),
        "action_sum": rng.normal(size=(num, t, M)).astype(np.float32),
        "action_sum_valid": np.ones((num, t, M), bool),
        "dataset": np.full(num, dataset, np.int32),
        "episode": (first_episode + np.arange(num) // 2).astype(np.int32),
        "step": (np.arange(num) % 2).astype(np.int32),
    }
    if depth:
        batch |= {
            "depth": rng.normal(size=(num, clip, size, size, 1)).astype(np.float32),
            "depth_valid": rng.random((num, clip, size, size, 1)) < 0.8,
            "depth_center": np.full(num, 0.5, np.float32),
            "depth_scale": np.full(num, 0.3, np.float32),
        }
    check(batch)
    return batch


def linear_encode(batch):
    """`encoded` is a fixed linear map of the actions, so a probe can invert it."""
    mix = np.random.default_rng(7).normal(size=(M, Z * U))
    encoded = (batch["action_sum"] @ mix).reshape(*batch["action_sum"].shape[:2], Z, U).astype(np.float32)
    code = (np.abs(np.nan_to_num(encoded[..., 0])) * 3).astype(np.int32) % V
    return {"code": code, "encoded": encoded, "quantized": encoded.copy()}


def gray_decode(batch, quantized_BtZU):
    """A gray image whose level depends on the code vectors of that (sample, k) only."""
    level = 1 / (1 + np.exp(-quantized_BtZU.sum(axis=(2, 3))))[..., None, None, None]
    shape = (*quantized_BtZU.shape[:2], *batch["rgb"].shape[2:4])
    return {
        "rgb": np.broadcast_to(level, (*shape, 3)).astype(np.float32),
        "depth": np.broadcast_to(level, (*shape, 1)).astype(np.float32),
    }


@pytest.fixture
def functions():
    return LatentActionFunctions(linear_encode, gray_decode, V, Z)


@pytest.fixture
def batch_of():
    return make_batch


@pytest.fixture
def dataset_spec():
    action = ActionSpec(
        names=("x", "y", "z", "grip"),
        units=("m", "m", "m", "1"),
        groups=("translation", "translation", "translation", "gripper"),
        delta=(True, True, True, False),
        frame="base",
        rotation="none",
        hz=5.0,
    )
    return DatasetSpec("toy", 5.0, (CameraSpec("primary", "image"),), action)
