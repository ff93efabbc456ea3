"""What a proportional controller does in the Fetch tasks: pure functions of where things are, in metres."""

from __future__ import annotations

import numpy as np

# An action of 1 moves the hand by so much.
METRES = 0.05
GAIN = 0.7
OPEN, CLOSED = 1.0, -1.0
# Over the table's objects, and half the width of one.
CLEARANCE_M, HALF_OBJECT_M = 0.08, 0.025
# Where the hand comes down to push.
BEHIND_M = 0.075
# How near is there.
NEAR_M = 0.01
# The opening of fingers that hold an object is below it.
HELD_OPENING_M = 2 * HALF_OBJECT_M + 0.003


def reach(hand_3: np.ndarray, goal_3: np.ndarray) -> np.ndarray:
    """The hand goes to the goal; float32[4]."""
    return _towards(hand_3, goal_3, CLOSED)


def pick_and_place(
    hand_3: np.ndarray, opening: float, object_3: np.ndarray, goal_3: np.ndarray
) -> np.ndarray:
    """The hand goes over the object, down, closes, and carries it to the goal; float32[4].

    Args:
      hand_3: float[3] the point between the fingers.
      opening: of the fingers.
      object_3: float[3] its middle.
      goal_3: float[3].
    """
    away_3 = object_3 - hand_3
    if np.linalg.norm(away_3) < 2 * NEAR_M:
        held = opening < HELD_OPENING_M
        return _towards(hand_3, hand_3 + goal_3 - object_3 if held else object_3, CLOSED)
    over = np.linalg.norm(away_3[:2]) < NEAR_M
    return _towards(hand_3, object_3 if over else object_3 + [0, 0, CLEARANCE_M], OPEN)


def push(hand_3: np.ndarray, object_3: np.ndarray, goal_3: np.ndarray) -> np.ndarray:
    """The closed hand goes behind the object, seen from the goal, and pushes it there; float32[4]."""
    way_2 = (goal_3 - object_3)[:2]
    way_2 = way_2 / max(np.linalg.norm(way_2), 1e-6)
    from_object_2 = (hand_3 - object_3)[:2]
    along, aside = from_object_2 @ way_2, abs(from_object_2[0] * way_2[1] - from_object_2[1] * way_2[0])
    low = hand_3[2] < object_3[2] + HALF_OBJECT_M
    if low and along < 0 and aside < HALF_OBJECT_M:
        # A point on the line from object to goal: the hand gets back onto it as it pushes.
        return _towards(hand_3, [*(object_3[:2] + HALF_OBJECT_M * way_2), object_3[2]], CLOSED)
    behind_2, high = object_3[:2] - BEHIND_M * way_2, object_3[2] + CLEARANCE_M
    if np.linalg.norm(behind_2 - hand_3[:2]) < NEAR_M:
        return _towards(hand_3, [*behind_2, object_3[2]], CLOSED)
    up = hand_3[2] > high - 2 * NEAR_M
    return _towards(hand_3, [*(behind_2 if up else hand_3[:2]), high], CLOSED)


def _towards(hand_3, target_3, gripper):
    move_3 = np.clip(GAIN * (np.asarray(target_3) - hand_3) / METRES, -1, 1)
    return np.array([*move_3, gripper], np.float32)
