"""The frames of openpi's protocol: maps in msgpack, with numpy's arrays in them in one of three dialects.

    OPENPI         {b"__ndarray__": true, b"data": bytes, b"dtype": "<f4", b"shape": [..]}, and for scalars
                   {b"__npgeneric__": true, b"data": number, b"dtype": "<f4"}
    TEXT_KEYS      the same with texts as keys
    MSGPACK_NUMPY  {b"nd": true, b"type": "<f4", b"kind": b"", b"shape": [..], b"data": bytes}, scalars with
                   b"nd": false and no shape; as the package msgpack-numpy has it

A header is checked before an array is built, and an array is a view of the frame.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from farsighted_jax.serving.errors import WireError

OPENPI, TEXT_KEYS, MSGPACK_NUMPY = "openpi", "text keys", "msgpack-numpy"
DIALECTS = (OPENPI, TEXT_KEYS, MSGPACK_NUMPY)
MAX_FRAME_BYTES = 32 * 2**20
# Arrays are single values here: an observation has dozens of values, a hostile frame has millions.
MAX_VALUES = 10_000
MAX_TEXT_BYTES = 2**16
_MAX_RANK = 8
_DTYPE_NAME = re.compile(r"[<>=|]?(b1|[iu][1248]|f[248])|bool|u?int(8|16|32|64)|float(16|32|64)")


def array(dtype: Any, shape: Any, data: Any) -> np.ndarray:
    """The array that a header describes, as a view of its data.

    Args:
      dtype: name of the type of its numbers, e.g. "<f4".
      shape: list of sizes.
      data: bytes in C order.

    Raises:
      WireError: of other than numbers in this machine's byte order, or of another size than it says.
    """
    found = _dtype(dtype)
    sizes = isinstance(shape, list) and len(shape) <= _MAX_RANK
    sizes = sizes and all(type(size) is int and 0 <= size <= MAX_FRAME_BYTES for size in shape)
    if not sizes or not isinstance(data, bytes) or math.prod(shape) * found.itemsize != len(data):
        raise WireError("an array whose shape is not that of its data")
    return np.ndarray(shape, found, data)


def unpacked(frame: bytes | str) -> tuple[dict[str, Any], str]:
    """The map of a frame, and the dialect of its arrays (OPENPI where it has none).

    Raises:
      WireError: a text, no msgpack, no map, more than MAX_VALUES values, or an array as in `array`.
    """
    dialects: list[str] = []

    def decoded(fields):
        value, dialect = _decoded(fields)
        if dialect:
            dialects.append(dialect)
        return value

    fields = unpacked_map(frame, decoded)
    if not isinstance(fields, dict):
        raise WireError(f"a {type(fields).__name__}, expected a map")
    return fields, dialects[0] if dialects else OPENPI


def unpacked_map(frame: bytes | str, decoded: Callable[[dict], Any]) -> Any:
    """What msgpack makes of a frame, within bounds; `decoded` is given every map.

    Raises:
      WireError: a text, no msgpack, or more than MAX_VALUES values.
    """
    import msgpack

    if not isinstance(frame, bytes):
        raise WireError("a text, expected a binary frame")
    count = 0

    def counted(values):
        nonlocal count
        count += len(values)
        if count > MAX_VALUES:
            raise WireError(f"a frame of more than {MAX_VALUES} values; large ones go as arrays")
        return values

    bounds = {"max_array_len": MAX_VALUES, "max_map_len": MAX_VALUES, "max_ext_len": 0}
    try:
        return msgpack.unpackb(
            frame, raw=False, max_str_len=MAX_TEXT_BYTES, **bounds,
            object_hook=lambda fields: decoded(counted(fields)), list_hook=counted,
        )  # fmt: skip
    except WireError:
        raise
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"{len(frame)} bytes that are no msgpack: {type(error).__name__}") from None


def packed(fields: Mapping[str, Any], dialect: str = OPENPI) -> bytes:
    """A map as a frame.

    Args:
      fields: of what msgpack knows, numpy's arrays and scalars.
      dialect: word of `DIALECTS`.
    """
    import msgpack

    return msgpack.packb(fields, default=lambda value: _encoded(value, dialect), use_bin_type=True)


def _dtype(name):
    dtype = np.dtype(name) if isinstance(name, str) and _DTYPE_NAME.fullmatch(name) else None
    if dtype is None or not dtype.isnative:
        raise WireError(
            f"an array of dtype {str(name)[:20]!r}, expected numbers in this machine's byte order"
        )
    return dtype


def _decoded(fields):
    """(value, dialect) of a map that stands for an array or a scalar, (the map, None) of another."""
    for dialect, form in ((OPENPI, bytes), (TEXT_KEYS, str)):
        key = _keys(form)
        if key("__ndarray__") in fields:
            return array(*(fields.get(key(name)) for name in ("dtype", "shape", "data"))), dialect
        if key("__npgeneric__") in fields:
            return _scalar(fields.get(key("dtype")), fields.get(key("data"))), dialect
    if b"nd" in fields:
        shape = fields.get(b"shape") if fields[b"nd"] else []
        value = array(fields.get(b"type"), shape, fields.get(b"data"))
        return (value if fields[b"nd"] else value[()]), MSGPACK_NUMPY
    return fields, None


def _scalar(name, number):
    dtype = _dtype(name)
    try:
        if isinstance(number, (bool, int, float)):
            return dtype.type(number)
    except OverflowError:
        pass
    raise WireError(f"a {type(number).__name__} that is no number of dtype {name!r}")


def _encoded(value, dialect):
    if not isinstance(value, (np.ndarray, np.generic)) or value.dtype.kind not in "biuf":
        raise TypeError(f"{type(value).__name__} has no place in a frame")
    whole = isinstance(value, np.ndarray)
    if dialect == MSGPACK_NUMPY:
        shape = {b"kind": b"", b"shape": value.shape} if whole else {}
        return {b"nd": whole, b"type": value.dtype.str, **shape, b"data": value.tobytes()}
    key = _keys(bytes if dialect == OPENPI else str)
    fields = {key("dtype"): value.dtype.str}
    if whole:
        return {key("__ndarray__"): True, key("data"): value.tobytes(), **fields, key("shape"): value.shape}
    return {key("__npgeneric__"): True, key("data"): value.item(), **fields}


def _keys(form):
    return str.encode if form is bytes else str
