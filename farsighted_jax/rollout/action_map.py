"""Actions of one specification as those of another: what a policy gives, as what a simulator takes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from farsighted_jax.core.rotations import FORMS, converted
from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.rollout.conventions import Controller, Gripper, gripper
from farsighted_jax.rollout.environment import RolloutError

HAND = ("translation", "rotation", "gripper")
# All arms here stand upright: the axes of their bases are the world's.
_UPRIGHT = {"base", "world"}
_ANGLES = ("rpy", "axis_angle")
_SI = {"m": 1.0, "cm": 0.01, "rad": 1.0}


def action_map(
    source: ActionSpec,
    target: ActionSpec,
    *,
    controller: Controller | None = None,
    adds_angles: bool = False,
    binary: bool = True,
) -> Callable[[np.ndarray], np.ndarray]:
    """A function from actions float[..., M] of `source` to float32[..., M] of `target`.

    Both are of one hand: changes of its place and rotation a step, then its gripper. Commands of a controller
    are clipped to [-1, 1].

    Args:
      source: of the policy.
      target: of the simulator.
      controller: what a change of 1 without a unit means, on either side; None where that is not known.
      adds_angles: the simulator adds roll, pitch and yaw to the hand's own, which no other form says.
      binary: the gripper gets one of its two ends, the nearer one.

    Raises:
      RolloutError: actions that cannot be brought over; the message says why.
    """
    _check(source, target, adds_angles)
    places, ends = _places(source), Gripper(source.gripper_open, source.gripper_closed)
    step, target_step = _step(source, controller), _step(target, controller)
    target_ends = Gripper(target.gripper_open, target.gripper_closed)

    def mapped(action_JM: np.ndarray) -> np.ndarray:
        action_JM = np.asarray(action_JM, np.float64)
        if action_JM.shape[-1] != source.width:
            raise RolloutError(f"actions of {action_JM.shape[-1]} numbers, expected {source.names}")
        move, turn, opening = (action_JM[..., places[group]] for group in HAND)
        move, turn = _clipped(move, source, 0) * step.metres, _clipped(turn, source, 3) * step.radians
        turn = converted(turn, source.rotation, target.rotation)
        move = _clipped(move / target_step.metres, target, 0)
        turn = _clipped(turn / target_step.radians, target, 3)
        opening = gripper(opening, ends, target_ends, binary=binary)
        return np.concatenate([move, turn, opening], axis=-1).astype(np.float32)

    return mapped


def _check(source, target, adds_angles):
    if not _is_hand(target):
        raise RolloutError(f"no map to actions {target.names}, which are not of one hand")
    frames = {source.frame, target.frame}
    reasons = {
        "are not a place, a rotation and a gripper, one after the other": not _is_hand(source),
        f"come at {source.hz} Hz, not {target.hz}": source.hz is not None and source.hz != target.hz,
        f"are in the frame {source.frame!r}": len(frames) > 1 and not frames <= _UPRIGHT,
        "are not changes a step of place and rotation, with an absolute gripper": any(
            delta == (group == "gripper") for delta, group in zip(source.delta, source.groups, strict=True)
        ),
        f"turn by {source.rotation!r}, where only {target.rotation!r} will do": (
            adds_angles and source.rotation != target.rotation
        ),
    }
    if wrong := [reason for reason, holds in reasons.items() if holds]:
        raise RolloutError(
            f"actions {source.names} cannot be made {target.names}: they {'; they '.join(wrong)}"
        )


def _is_hand(spec):
    if spec.rotation not in FORMS:
        return False
    widths = {"translation": 3, "rotation": FORMS[spec.rotation].width, "gripper": 1}
    return spec.groups == tuple(group for group in HAND for _ in range(widths[group]))


def _places(spec) -> Mapping[str, slice]:
    return {
        group: slice(spec.groups.index(group), spec.groups.index(group) + spec.groups.count(group))
        for group in HAND
    }


def _step(spec, controller) -> Controller:
    """Metres and radians of a change of 1; a rotation in a form without an angle has no unit."""
    found = []
    for name, group in (("metres", "translation"), ("radians", "rotation")):
        (unit, *others) = {spec.units[index] for index, g in enumerate(spec.groups) if g == group}
        if group == "rotation" and spec.rotation not in _ANGLES:
            found.append(1.0)
        elif unit in _SI and not others:
            found.append(_SI[unit])
        elif unit == "1" and not others and controller:
            found.append(getattr(controller, name))
        else:
            raise RolloutError(
                f"{group} of actions {spec.names} in {sorted([unit, *others])}: how many {name} is not known"
            )
    return Controller(*found)


def _clipped(part, spec, place):
    """Commands of a controller lie within [-1, 1]."""
    return np.clip(part, -1, 1) if spec.units[place] == "1" else part
