"""What clients call cameras, state and instruction, and how their requests become a policy's observations.

Clients of openpi send upright images, uint8[H, W, 3], or channels first, or float within [0, 1]. With a
history, an image may be n of them, see `serving.observation`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from farsighted_jax.serving.errors import RequestError

MAX_SIDE = 8192


@dataclasses.dataclass(frozen=True)
class KeyLayout:
    """Keys of a request; "a/b" is a key, or the key "b" of the map "a".

    Attributes:
      cameras: role -> key of its image.
      state: keys of numbers that are the state, one after the other.
      instruction: key of the text.
    """

    cameras: Mapping[str, str]
    state: tuple[str, ...]
    instruction: str = "prompt"


_JOINTS = ("observation/joint_position", "observation/gripper_position")

LAYOUTS = {
    "libero": KeyLayout(
        {"primary": "observation/image", "wrist": "observation/wrist_image"}, ("observation/state",)
    ),
    "droid": KeyLayout(
        {
            "primary": "observation/exterior_image_1_left",
            "secondary": "observation/exterior_image_2_left",
            "wrist": "observation/wrist_image_left",
        },
        _JOINTS,
    ),
    "roboarena": KeyLayout(
        {
            "primary": "observation/exterior_image_0_left",
            "secondary": "observation/exterior_image_1_left",
            "wrist": "observation/wrist_image_left",
        },
        _JOINTS,
    ),
    "aloha": KeyLayout(
        {
            "primary": "images/cam_high",
            "secondary": "images/cam_low",
            "wrist": "images/cam_right_wrist",
            "left_wrist": "images/cam_left_wrist",
        },
        ("state",),
    ),
}


def layout_for(name: str, policy: Any, cameras: Mapping[str, str], state: tuple[str, ...]) -> KeyLayout:
    """A row of LAYOUTS, changed.

    Args:
      name: key of LAYOUTS.
      policy: a `serving.policy.Policy` that is to be asked with it.
      cameras: role -> key that is taken instead.
      state: keys that are taken instead, if any.

    Raises:
      RequestError: a camera that the policy sees has no key, or has one that it does not see.
    """
    row = LAYOUTS[name]
    layout = dataclasses.replace(row, cameras={**row.cameras, **cameras}, state=state or row.state)
    if unknown := [role for role in cameras if role not in policy.cameras]:
        raise RequestError(
            f"a key for camera {unknown[0]!r}, expected those that the policy sees: {policy.cameras}"
        )
    if missing := [role for role in policy.cameras if role not in layout.cameras]:
        raise RequestError(f"layout {name!r} has no key for camera {missing[0]!r}; give it one")
    return layout


def observation(layout: KeyLayout, policy: Any, request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as the policy reads it; keys that it does not read are left alone.

    Args:
      layout: what the client calls things.
      policy: a `serving.policy.Policy`.
      request: of the client.

    Raises:
      RequestError: names the key that is missing or has a value of another kind, and what was expected.
    """
    found: dict[str, Any] = {"rgb": {}}
    for role in policy.cameras:
        key = layout.cameras[role]
        image = image_of(key, _value(request, key))
        # The policy turns what its dataset stores upside down.
        turn = policy.spec.camera(role).rotate_180
        found["rgb"][role] = image[..., ::-1, ::-1, :] if turn else image
    if "state" in policy.keys:
        found["state"] = np.concatenate([_numbers(key, _value(request, key)) for key in layout.state])
        _check_state(layout, policy, found["state"])
    if "instruction" in policy.keys:
        found["instruction"] = _text(layout.instruction, _value(request, layout.instruction))
    return found


def image_of(key: str, value: Any) -> np.ndarray:
    """An image uint8[..., H, W, 3] of what a client sends under a key; RequestError if it is none."""
    expected = "an image uint8[H, W, 3], or float within [0, 1]"
    if not isinstance(value, np.ndarray) or value.ndim not in (3, 4) or value.dtype.kind not in "uf":
        raise RequestError(f"{key!r} is {told(value)}, expected {expected}")
    if value.shape[-1] != 3 and value.shape[-3] == 3:
        value = np.moveaxis(value, -3, -1)
    if value.shape[-1] != 3 or not 0 < min(value.shape) or max(value.shape) > MAX_SIDE:
        raise RequestError(
            f"{key!r} is {told(value)}, expected {expected} of at most {MAX_SIDE} pixels a side"
        )
    if value.dtype.kind == "f":
        if not (value.min() >= 0 and value.max() <= 1):
            raise RequestError(f"{key!r} is from {value.min()} to {value.max()}, expected {expected}")
        return (255 * value).astype(np.uint8)
    if value.dtype != np.uint8:
        raise RequestError(f"{key!r} is {told(value)}, expected {expected}")
    return value


def _value(request, key):
    if key in request:
        return request[key]
    outer, _, inner = key.partition("/")
    part = request.get(outer)
    if not isinstance(part, Mapping) or inner not in part:
        raise RequestError(f"{key!r} is missing; the request has {sorted(map(str, request))[:20]}")
    return part[inner]


def _numbers(key, value):
    try:
        numbers = np.atleast_1d(np.asarray(value))
    except ValueError:
        numbers = None
    if numbers is None or numbers.ndim != 1 or numbers.dtype.kind not in "iuf":
        raise RequestError(f"{key!r} is {told(value)}, expected a list of numbers")
    return numbers.astype(np.float64)


def _check_state(layout, policy, state):
    names, keys = policy.spec.state_names, " and ".join(map(repr, layout.state))
    if names and len(state) != len(names):
        raise RequestError(f"{keys}: {len(state)} numbers, expected {len(names)}: {names}")
    bad = np.flatnonzero(~np.isfinite(state))
    if len(bad):
        raise RequestError(f"{keys}: number {bad[0]} is {state[bad[0]]}, expected finite numbers")


def _text(key, value):
    try:
        text = value.decode() if isinstance(value, bytes) else value
    except UnicodeDecodeError:
        text = None
    if not isinstance(text, str):
        raise RequestError(f"{key!r} is {told(value)}, expected a text")
    return text


def told(value: Any) -> str:
    """What a client sent, in a few words."""
    if isinstance(value, str):
        return repr(value[:80])
    if isinstance(value, (np.ndarray, np.generic)):
        return f"{value.dtype}{list(value.shape)}"
    return f"of type {type(value).__name__}"
