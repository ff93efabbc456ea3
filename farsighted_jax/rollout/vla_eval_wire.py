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

from data_pipelines.frame import FrameError, decode_rgb
from farsighted_jax.serving import wire
from farsighted_jax.serving.errors import WireError

PROTOCOL_VERSION = 1
HELLO, OBSERVATION, ACTION, ERROR = "hello", "observation", "action", "error"
EPISODE_START, EPISODE_END = "episode_start", "episode_end"
TYPES = (HELLO, OBSERVATION, ACTION, EPISODE_START, EPISODE_END, ERROR)
ARRAY, IMAGE = "__ndarray__", "__image__"
MAX_PIXELS = 2**24
_PNG_BEGINS = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR"


class Message(NamedTuple):
    """One message; an answer has the number of its question."""

    type: str
    payload: Mapping[str, Any]
    seq: int = 0


def packed(message: Message) -> bytes:
    """A message as a binary frame; arrays in the payload go raw."""
    return wire.packed({**message._asdict(), "timestamp": time.time()}, wire.TEXT_KEYS)


def unpacked(frame: bytes | str) -> Message:
    """The message of a frame.

    Raises:
      WireError: text, no msgpack, no message, an array of other than numbers or of another size than it says,
        or an image that cannot be decoded.
    """
    fields = wire.unpacked_map(frame, _decoded)
    kind = fields.get("type") if isinstance(fields, Mapping) else None
    if not isinstance(kind, str) or kind not in TYPES:
        raise WireError(f"expected a map with a type, one of {TYPES}")
    payload, seq = fields.get("payload"), fields.get("seq")
    if not isinstance(payload, Mapping) or not isinstance(seq, int):
        raise WireError("expected a map with a map 'payload' and a number 'seq'")
    return Message(kind, payload, seq)


def _decoded(fields):
    if IMAGE in fields and fields.get("format") != "raw":
        return _picture(fields)
    if ARRAY in fields or IMAGE in fields:
        return wire.array(*(fields.get(key) for key in ("dtype", "shape", "data")))
    return fields


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
