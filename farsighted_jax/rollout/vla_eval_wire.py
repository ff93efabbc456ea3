"""The messages of `vla-eval`, protocol version 1: maps in msgpack, with arrays and images in them.

{"type": word of TYPES, "payload": map, "seq": int, "timestamp": seconds}
array  {"__ndarray__": true, "data": bytes, "dtype": "<f4", "shape": [..]}
image  {"__image__": true, "format": "png" | "jpeg", "data": bytes, "shape": [H, W, C]}
image  {"__image__": true, "format": "raw", and what an array has}
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import cv2
import numpy as np

from data_pipelines.frame import FrameError, decode_rgb

PROTOCOL_VERSION = 1
HELLO, OBSERVATION, ACTION, ERROR = "hello", "observation", "action", "error"
EPISODE_START, EPISODE_END = "episode_start", "episode_end"
TYPES = (HELLO, OBSERVATION, ACTION, EPISODE_START, EPISODE_END, ERROR)
ARRAY, IMAGE = "__ndarray__", "__image__"
MAX_PIXELS = 2**24
_NUMBERS = "biuf"
_PNG_BEGINS = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"


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
    form, data, shape = (fields.get(key) for key in ("format", "data", "shape"))
    if form != "png" or not isinstance(data, bytes):
        raise WireError(f"an image of format {str(form)[:20]!r}, expected raw or png")
    if not _is_whole_png(data):
        raise WireError(f"an image of {len(data)} bytes that are no whole PNG")
    # Few bytes can unfold to gigabytes.
    size = [int.from_bytes(data[place : place + 4], "big") for place in (20, 16)]
    if shape != [*size, 3] or math.prod(size) > MAX_PIXELS:
        raise WireError(
            f"a PNG of {size[0]} x {size[1]}, expected that of its shape, at most {MAX_PIXELS} pixels"
        )
    try:
        return decode_rgb(data)
    except (FrameError, cv2.error) as error:
        raise WireError(f"an image that cannot be decoded: {str(error)[:200]}") from None


def _is_whole_png(data):
    """Whether it is made of chunks as long as they say, with right checksums, the header first.

    OpenCV takes a chunk's word for its length, and memory for it, up to 4 GB.
    """
    if not data.startswith(_PNG_BEGINS):
        return False
    place = len(_PNG_BEGINS) - 8
    while place + 12 <= len(data):
        end = place + 12 + int.from_bytes(data[place : place + 4], "big")
        if zlib.crc32(data[place + 4 : end - 4]) != int.from_bytes(data[end - 4 : end], "big"):
            return False
        place = end
    return place == len(data)
