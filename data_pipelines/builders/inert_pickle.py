"""What a pickle holds, without unpickling it: nothing that it names is imported, called or built.

Some datasets keep their annotations as a pickled dict inside an .npy file. Here its opcodes are read by a
machine that knows plain containers, texts and numbers alone; whatever would call a function stays an `Inert`
record of its name and arguments. Arrays and scalars of numpy are recognised by those names.
"""

from __future__ import annotations

import dataclasses
import io
import os
import pickletools
import re
from typing import Any

import numpy as np

from data_pipelines.errors import DatasetError

_ARRAY, _SCALAR, _DTYPE = "multiarray _reconstruct", "multiarray scalar", "numpy dtype"
_INTEGER = re.compile(r"[iu][1248]")
_MARK = object()
# Opcodes whose argument is the value itself.
_VALUES = (
    "BININT BININT1 BININT2 INT LONG LONG1 LONG4 BINFLOAT FLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "UNICODE BINBYTES SHORT_BINBYTES BINBYTES8 BINSTRING SHORT_BINSTRING STRING"
).split()
_MADE = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple, "MARK": lambda: _MARK,
}  # fmt: skip
_SHORT_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


@dataclasses.dataclass(eq=False, repr=False)
class Inert:
    """A name that a pickle would import, and what it would be called with; nobody calls it.

    Attributes:
      name: module and name, a space between.
      args: of the call, or None before it.
      state: what the result would be given.
    """

    name: str
    args: tuple | None = None
    state: Any = None

    def __repr__(self):
        return f"<what {self.name!r} would make>"


def npy_object(path: str | os.PathLike) -> Any:
    """The value in an .npy file of dtype object, of dicts, lists, tuples, texts and numbers.

    An array of objects or of whole numbers becomes a list, an object without an axis its value; whatever else
    is no plain value stays `Inert`.

    Raises:
      DatasetError: no such file, or a pickle with other opcodes than plain values need; names it.
    """
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = {1: np.lib.format.read_array_header_1_0, 2: np.lib.format.read_array_header_2_0}
            shape, _, dtype = header[version[0]](file)
            content = file.read()
        if not dtype.hasobject:
            raise ValueError(f"an array of {dtype}, expected one object")
        value = _plain(_loaded(content))
    except (OSError, ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DatasetError(
            f"{path}: cannot be read as plain values: {type(error).__name__}: {error}"
        ) from error
    return value[0] if shape == () and isinstance(value, list) and len(value) == 1 else value


def _loaded(content):
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    for opcode, argument, _ in pickletools.genops(io.BytesIO(content)):
        name = opcode.name
        if name == "STOP":
            return stack.pop()
        if name in _VALUES:
            stack.append(argument)
        elif name in _MADE:
            stack.append(_MADE[name]())
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            memo[len(memo) if name == "MEMOIZE" else argument] = stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name not in ("PROTO", "FRAME"):
            _combine(name, argument, stack)
    raise ValueError("it has no end")


def _combine(name, argument, stack):
    """Opcodes that make one value of several."""
    if name in _SHORT_TUPLES:
        number = _SHORT_TUPLES[name]
        stack[-number:] = [tuple(stack[-number:])]
    elif name == "TUPLE":
        stack.append(tuple(_since_mark(stack)))
    elif name == "LIST":
        stack.append(_since_mark(stack))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _since_mark(stack)
        stack[-1].extend(items)
    elif name in ("SETITEM", "SETITEMS", "DICT"):
        items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _since_mark(stack)
        if name == "DICT":
            stack.append({})
        stack[-1].update(zip(items[::2], items[1::2], strict=True))
    elif name == "GLOBAL":
        stack.append(Inert(argument))
    elif name == "STACK_GLOBAL":
        stack[-2:] = [Inert(f"{stack[-2]} {stack[-1]}")]
    elif name == "REDUCE":
        stack[-2:] = [Inert(stack[-2].name, stack[-1])]
    elif name == "BUILD":
        state = stack.pop()
        stack[-1].state = state
    else:
        raise ValueError(f"opcode {name}, which plain values do not need")


def _since_mark(stack):
    begin = len(stack) - 1 - stack[::-1].index(_MARK)
    items = stack[begin + 1 :]
    del stack[begin:]
    return items


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_plain(item) for item in value)
    if isinstance(value, Inert) and value.name.endswith(_ARRAY) and isinstance(value.state, tuple):
        _, shape, dtype, _, content = value.state
        if isinstance(content, list):
            return _plain(content)
        return (
            value
            if (kind := _integer(dtype)) is None
            else np.frombuffer(content, kind).reshape(shape).tolist()
        )
    if isinstance(value, Inert) and value.name.endswith(_SCALAR):
        kind, content = _integer(value.args[0]), value.args[1]
        return value if kind is None else int(np.frombuffer(content, kind)[0])
    return value


def _integer(dtype):
    """A numpy type of whole numbers, of its inert record; None for any other."""
    if dtype.name != _DTYPE or not _INTEGER.fullmatch(dtype.args[0]):
        return None
    return np.dtype(dtype.args[0]).newbyteorder(dtype.state[1] if dtype.state else "=")
