"""The messages of `vla-eval`, protocol version 1: maps in msgpack, with arrays and images in them.

{"type": word of TYPES, "payload": map, "seq": int, "timestamp": seconds}
array  {"__ndarray__": true, "data": bytes, "dtype": "<f4", "shape": [..]}
image  {"__image__": true, "format": "png" | "jpeg", "data": bytes, "shape": [H, W, C]}
image  {"__image__": true, "format": "raw", and what an array has}
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from data_pipelines.frame import FrameError, decode_rgb

PROTOCOL_VERSION = 1
HELLO, OBSERVATION, ACTION, ERROR = "hello", "observation", "action", "error"
EPISODE_START, EPISODE_END = "episode_start", "episode_end"
TYPES = (HELLO, OBSERVATION, ACTION, EPISODE_START, EPISODE_END, ERROR)
ARRAY, IMAGE = "__ndarray__", "__image__"
_NUMBERS = "biuf"


class WireError(ValueError):
    """A frame that is no message; the text says what was expected."""


class Message(NamedTuple):
    """One message; an answer has the number of its question."""

    type: str
    payload: Mapping[str, Any]
    seq: int = 0


def packed(message: Message) -> bytes:
    """A message as a binary frame; arrays in the payload go raw."""
    import msgpack

    fields = {**message._asdict(), "timestamp": time.time()}
    return msgpack.packb(fields, default=_encoded, use_bin_type=True)


def unpacked(frame: bytes | str) -> Message:
    """The message of a frame.

    Raises:
      WireError: text, no msgpack, no message, an array of other than numbers or of another size than it says,
        or an image that cannot be decoded.
    """
    import msgpack

    if not isinstance(frame, bytes):
        raise WireError("a text, expected a binary frame")
    try:
        fields = msgpack.unpackb(frame, object_hook=_decoded, raw=False)
    except WireError:
        raise
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"{len(frame)} bytes that are no msgpack: {type(error).__name__}") from None
    if not isinstance(fields, Mapping) or fields.get("type") not in TYPES:
        raise WireError(f"expected a map with a type, one of {TYPES}")
    payload, seq = fields.get("payload"), fields.get("seq")
    if not isinstance(payload, Mapping) or not isinstance(seq, int):
        raise WireError("expected a map with a map 'payload' and a number 'seq'")
    return Message(fields["type"], payload, seq)


def _encoded(value):
    if isinstance(value, np.ndarray):
        return {ARRAY: True, "data": value.tobytes(), "dtype": value.dtype.str, "shape": list(value.shape)}
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no place in a message")


def _decoded(fields):
    if IMAGE in fields and fields.get("format") != "raw":
        return _picture(fields)
    return _array(fields) if ARRAY in fields or IMAGE in fields else fields


def _array(fields):
    name, shape, data = (fields.get(key) for key in ("dtype", "shape", "data"))
    try:
        dtype = np.dtype(name) if isinstance(name, str) else None
    except TypeError:
        dtype = None
    if dtype is None or dtype.kind not in _NUMBERS or not dtype.isnative:
        raise WireError(
            f"an array of dtype {str(name)[:20]!r}, expected numbers in this machine's byte order"
        )
    sizes = isinstance(shape, list) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or not isinstance(data, bytes) or math.prod(shape) * dtype.itemsize != len(data):
        raise WireError("an array whose shape is not that of its data")
    return np.frombuffer(data, dtype).reshape(shape)


def _picture(fields):
    form, data = fields.get("format"), fields.get("data")
    if form not in ("png", "jpeg") or not isinstance(data, bytes):
        raise WireError(f"an image of format {str(form)[:20]!r}, expected raw, png or jpeg")
    try:
        return decode_rgb(data)
    except FrameError as error:
        raise WireError(f"an image of format {form!r}: {error}") from None
