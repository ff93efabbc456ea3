"""A tiny LAM and a random batch; sizes differ in every axis."""

import functools
import math

import jax
import numpy as np

from farsighted_jax.lam.model import FarsightedLam
from farsighted_jax.lam.objective import LossWeights
from farsighted_jax.lam.quantizer import Quantizer
from farsighted_jax.lam.task import LamTask

B, T, H, W, Z, V, U = 6, 4, 12, 16, 3, 7, 5
LEVELS = (3, 4)


def random_batch(seed=0, size=(H, W)):
    rng = np.random.default_rng(seed)
    rows, columns = size
    frame_valid_BT = np.ones((B, T), bool)
    frame_valid_BT[1, 3] = frame_valid_BT[4, 2] = frame_valid_BT[4, 3] = False
    return {
        "rgb": rng.integers(0, 256, (B, T, rows, columns, 3), np.uint8),
        "depth": rng.normal(size=(B, T, rows, columns, 1)).astype(np.float32),
        "depth_valid": (rng.uniform(size=(B, T, rows, columns, 1)) < 0.8)
        & frame_valid_BT[:, :, None, None, None],
        "time_s": np.broadcast_to(np.arange(T, dtype=np.float32) * 0.2, (B, T)).copy(),
        "frame_valid": frame_valid_BT,
        "row": np.arange(B, dtype=np.int32),
    }


def lam_task(head="pixels", quantizer="ema", distance="l2", depth_input="none"):
    levels = LEVELS if quantizer == "fsq" else ()
    size, width = (math.prod(levels), len(levels)) if levels else (V, U)
    learned = size if quantizer == "gradient" else 0
    model = FarsightedLam(
        8, 2, 2, 2, num_slots=Z, code_width=width, patch=4, head=head, codebook_size=learned,
        pyramid=(1, 2) if head == "pixels" else (), pyramid_every=2,
        num_keypoints=5 if head == "layers" else 0, depth_input=depth_input,
    )  # fmt: skip
    return LamTask(model, Quantizer(quantizer, size, width, distance, levels=levels), LossWeights())


@functools.cache
def jitted(task, method):
    """A method of the task, compiled once for all tests."""
    return jax.jit(getattr(task, method))


@functools.cache
def _gradient(task):
    def loss(params, state, batch, counts):
        return task.loss(params, state, batch, jax.random.key(7), counts)

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def gradient_and_aux(task, params, state, batch, counts=None):
    """((loss, (metrics, updates)), gradient); `counts` are those of the batch itself by default."""
    return _gradient(task)(params, state, batch, counts or jitted(task, "denominators")(batch))


def loss_and_aux(task, params, state, batch):
    """(loss, (metrics, updates))."""
    return gradient_and_aux(task, params, state, batch)[0]
