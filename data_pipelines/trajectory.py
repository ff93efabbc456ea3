"""Windows of an episode: keyframes by seconds, action chunks, and their masks.

A window starts at a step of an episode (frame 0) and looks at the frames a
fixed number of steps later. It never leaves its episode: what lies past the
end is masked, not taken from elsewhere. A start counts as a window if at least
the first transition exists, so an episode of L steps has L - steps[0] windows.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from farsighted_jax.core.spec import ActionSpec


class KeyframeError(ValueError):
    """Offsets in seconds that the frame rate of a dataset cannot tell apart."""


def linear_offsets(last_s: float, count: int) -> tuple[float, ...]:
    """`count` offsets, evenly spaced up to `last_s` seconds: (0.6, 3) gives (0.2, 0.4, 0.6).

    Raises:
      KeyframeError: last_s <= 0 or count < 1.
    """
    if last_s <= 0 or count < 1:
        raise KeyframeError(f"linear offsets: last_s {last_s} and count {count}, expected > 0 and >= 1")
    return tuple(round(last_s * k / count, 6) for k in range(1, count + 1))


def geometric_offsets(first_s: float, count: int, ratio: float = 2.0) -> tuple[float, ...]:
    """`count` offsets, each `ratio` times the one before: (0.1, 4) gives (0.1, 0.2, 0.4, 0.8).

    Few keyframes look near and far at once.

    Raises:
      KeyframeError: first_s <= 0, count < 1 or ratio <= 1.
    """
    if first_s <= 0 or count < 1 or ratio <= 1:
        raise KeyframeError(
            f"geometric offsets: first_s {first_s}, count {count} and ratio {ratio}, "
            "expected > 0, >= 1 and > 1"
        )
    return tuple(round(first_s * ratio**k, 6) for k in range(count))


def keyframe_steps(
    hz: float, offsets_s: Sequence[float], dataset: str = "", key: str = "offsets_s"
) -> tuple[int, ...]:
    """Converts offsets in seconds to whole frames, each the nearest one.

    Args:
      hz: frames a second of the dataset.
      offsets_s: seconds from frame 0 to each further keyframe.
      dataset: name for the message.
      key: what the message calls the offsets.

    Returns:
      t frame counts, each >= 1 and strictly increasing.

    Raises:
      KeyframeError: no offset, or two keyframes would be the same frame. The
        message names dataset, rate, offsets and the nearest offsets that work.
    """
    if not offsets_s:
        raise KeyframeError(f"dataset {dataset!r}: {key} is empty, expected at least one offset in seconds")
    # Rounding to 6 digits first, so that no floating-point noise decides; an exact half goes to the even one.
    steps = [round(round(float(offset) * hz, 6)) for offset in offsets_s]
    possible: list[int] = []
    for step in steps:
        possible.append(max(step, possible[-1] + 1 if possible else 1))
    if steps != possible:
        works = tuple(round(step / hz, 6) for step in possible)
        raise KeyframeError(
            f"dataset {dataset!r} at {hz:g} Hz: {key} {tuple(offsets_s)} are the frames {tuple(steps)}, "
            f"expected >= 1 and strictly increasing; the nearest offsets that work are {works}"
        )
    return tuple(steps)


def history_steps(hz: float, history_s: Sequence[float], dataset: str = "") -> tuple[int, ...]:
    """Converts seconds before frame 0, the oldest first, to frames before it; 0, itself, is the last.

    Raises:
      KeyframeError: as `keyframe_steps`; two frames would be the same or the order is another.
    """
    if not history_s:
        return (0,)
    back = keyframe_steps(hz, tuple(history_s)[::-1], dataset, "history_s from the latest to the oldest")
    return (*back[::-1], 0)


def window_counts(lengths_E: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Number of windows of each episode, int64[E]; 0 where not even the first transition exists."""
    return np.maximum(np.asarray(lengths_E, np.int64) - steps[0], 0)


@dataclasses.dataclass(frozen=True)
class Window:
    """Where the keyframes of one window lie.

    Attributes:
      frames: int64[T] steps of the episode; those that do not exist are 0.
      valid: bool[T] which exist.
      time_s: float32[T] seconds since frame 0; 0 where not valid.
    """

    frames: np.ndarray
    valid: np.ndarray
    time_s: np.ndarray


def keyframe_window(start: int, steps: Sequence[int], length: int, hz: float) -> Window:
    """The window that starts at step `start` of an episode of `length` steps."""
    ahead = np.array((0, *steps), np.int64)
    valid = start + ahead < length
    return Window(
        frames=np.where(valid, start + ahead, 0),
        valid=valid,
        time_s=np.where(valid, ahead / hz, 0.0).astype(np.float32),
    )


def action_chunk(actions_LM: np.ndarray, start: int, horizon: int) -> tuple[np.ndarray, np.ndarray]:
    """The actions of `horizon` steps from frame 0 on.

    Returns:
      chunk_JM: float32[J, M], zero past the end of the episode.
      valid_J: bool[J].
    """
    taken_JM = actions_LM[start : start + horizon]
    chunk_JM = np.zeros((horizon, actions_LM.shape[1]), np.float32)
    chunk_JM[: len(taken_JM)] = taken_JM
    return chunk_JM, np.arange(horizon) < len(taken_JM)


def action_sum(actions_LM: np.ndarray, window: Window, delta: Sequence[bool], begin: int = 0) -> np.ndarray:
    """What the actions add up to between frame 0 and each further keyframe.

    Args:
      actions_LM: float[L, M] of the episode, from step `begin` to the last keyframe at least.
      window: keyframes.
      delta: M flags; True for a change a step, False for an absolute value.
      begin: step of the first row, at most that of frame 0.

    Returns:
      float32[t, M]: the sum over the steps [frame 0, frame k) of delta
      dimensions, the change of absolute ones; 0 where frame k does not exist.
    """
    first, last = int(window.frames[0]), int(window.frames.max())
    span_lM = np.asarray(actions_LM[first - begin : last + 1 - begin], np.float64)
    # Row i: sum of the actions before step i, and change up to it. Row 0, which missing frames take, is zero.
    summed_lM = np.cumsum(span_lM, axis=0) - span_lM
    per_step_lM = np.where(np.asarray(delta, bool), summed_lM, span_lM - span_lM[0])
    ahead_t = np.where(window.valid[1:], window.frames[1:] - first, 0)
    return per_step_lM[ahead_t].astype(np.float32)


def oriented(actions_LM: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Actions with the gripper in our polarity (1 = open, 0 = closed), float32[L, M]; the rest as stored."""
    offset, scale = _orientation(spec)
    return ((np.asarray(actions_LM, np.float64) - offset) / scale).astype(np.float32)


def as_stored(actions_JM: np.ndarray, spec: ActionSpec) -> np.ndarray:
    """Inverse of `oriented`: actions as the dataset stores them and the robot takes them, float32[..., M]."""
    offset, scale = _orientation(spec)
    return (np.asarray(actions_JM, np.float64) * scale + offset).astype(np.float32)


@functools.lru_cache(maxsize=128)
def _orientation(spec):
    gripper = np.array([group == "gripper" for group in spec.groups])
    absolute = gripper & ~np.array(spec.delta)
    offset = np.where(absolute, spec.gripper_closed, 0.0)
    return offset, np.where(gripper, spec.gripper_open - spec.gripper_closed, 1.0)
