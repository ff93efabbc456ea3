"""A policy's actions as openpi's clients take them: grippers their way, or an error that says why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.rollout.benchmarks import BENCHMARKS
from farsighted_jax.rollout.conventions import GRIPPERS, OURS, Gripper, gripper
from farsighted_jax.rollout.environment import RolloutError

Map = Callable[[np.ndarray], np.ndarray]

_ARM, _HAND = ("joint",) * 7, ("translation",) * 3 + ("rotation",) * 3
_GRIPPER = ("gripper",)


def actions_for(layout: str, spec: ActionSpec) -> Map:
    """A function from actions float[..., M] of a policy to float32[..., M] of a client.

    Args:
      layout: key of `serving.key_layouts.LAYOUTS`.
      spec: of the policy.

    Raises:
      RolloutError: other actions than the client takes; the message says which.
    """
    if layout == "libero":
        return BENCHMARKS["libero"].actions_of(spec)
    if layout == "droid":
        # Velocities of joints, which the client clips to [-1, 1].
        return _grippers_as(spec, [_ARM + _GRIPPER], GRIPPERS["openpi"], changes=True)
    if layout == "roboarena":
        return _grippers_as(spec, [_ARM + _GRIPPER, _HAND + _GRIPPER], GRIPPERS["openpi"])
    arm = ("joint",) * 6 + _GRIPPER
    return _grippers_as(spec, [arm + arm], OURS, changes=False)


def _grippers_as(
    spec: ActionSpec, allowed: Sequence[tuple[str, ...]], ends: Gripper, *, changes: bool | None = None
) -> Map:
    if spec.groups not in allowed:
        raise RolloutError(f"actions {spec.names} of {spec.groups}, expected one of {list(allowed)}")
    is_gripper = np.array([group == "gripper" for group in spec.groups])
    found = {delta for delta, place in zip(spec.delta, is_gripper, strict=True) if not place}
    if found != {changes} and (changes is not None or len(found) > 1):
        kind = {True: "changes a step", False: "absolute", None: "all of one kind"}[changes]
        raise RolloutError(f"actions {spec.names} are changes a step at {spec.delta}, expected {kind}")
    own = Gripper(spec.gripper_open, spec.gripper_closed)

    def mapped(action_JM):
        return np.where(is_gripper, gripper(action_JM, own, ends), action_JM).astype(np.float32)

    return mapped
