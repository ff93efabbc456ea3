"""Masked losses of an action chunk: flow velocity, and the open or closed gripper."""

from __future__ import annotations

import jax
import jax.numpy as jnp

AXES = "BJM"


def kept_sum(value_BJM, valid_BJM, keep: str = ""):
    """Masked sum and count over all axes but those kept, so that parts of a step can be added up.

    Args:
      value_BJM: float[B, J, M]; what stands where it is not valid, NaN included, has no influence.
      valid_BJM: bool[B, J, M] or what broadcasts to it.
      keep: letters of the axes that stay: "" for one sum, "B" per sample, "J" per
        step of the chunk, "M" per dimension, "JM" for both.

    Returns:
      float32 sum and float32 count, each with the kept axes.

    Raises:
      ValueError: a letter that is none of "BJM".
    """
    if unknown := sorted(set(keep) - set(AXES)):
        raise ValueError(f"kept axes {keep!r}: {unknown} are none of {list(AXES)}")
    axes = tuple(axis for axis, letter in enumerate(AXES) if letter not in keep)
    valid_BJM = jnp.broadcast_to(valid_BJM, value_BJM.shape)
    total = jnp.sum(jnp.where(valid_BJM, value_BJM.astype(jnp.float32), 0.0), axis=axes)
    return total, jnp.sum(valid_BJM, axis=axes, dtype=jnp.float32)


def velocity_error(velocity_BJM, target_BJM, valid_BJM, keep: str = ""):
    """Squared error of the predicted flow velocity over valid steps and dimensions (eq. 13).

    Args:
      velocity_BJM: float[B, J, M] predicted.
      target_BJM: float[B, J, M] action minus noise; may hold anything where it is not valid.
      valid_BJM: bool[B, J, M].
      keep: see `kept_sum`.

    Returns:
      float32 sum and float32 count; their ratio is the mean squared error.
    """
    # Masked before it is squared: the gradient of what is not valid is zero and never NaN.
    difference_BJM = velocity_BJM.astype(jnp.float32) - target_BJM.astype(jnp.float32)
    difference_BJM = jnp.where(valid_BJM, difference_BJM, 0.0)
    return kept_sum(difference_BJM**2, valid_BJM, keep)


def gripper_cross_entropy(logit_BJM, action_BJM, valid_BJM, keep: str = ""):
    """Binary cross entropy of the gripper dimensions of a chunk.

    Args:
      logit_BJM: float[B, J, M] of an open gripper.
      action_BJM: float[B, J, M] 1 = open, 0 = closed, as the normalised action has it; half-open
        grippers are targets in between, what lies outside [0, 1] is clipped to it.
      valid_BJM: bool[B, J, M] valid steps of gripper dimensions.
      keep: see `kept_sum`.

    Returns:
      float32 sum in nats and float32 count.
    """
    logit_BJM = jnp.where(valid_BJM, logit_BJM.astype(jnp.float32), 0.0)
    open_BJM = jnp.clip(jnp.where(valid_BJM, action_BJM.astype(jnp.float32), 0.0), 0.0, 1.0)
    entropy_BJM = jax.nn.softplus(logit_BJM) - open_BJM * logit_BJM
    return kept_sum(entropy_BJM, valid_BJM, keep)
