"""Frames of openpi's protocol: three dialects in and out, and nothing that is not a number."""

import msgpack
import numpy as np
import pytest

from farsighted_jax.serving import wire
from farsighted_jax.serving.errors import WireError

VALUES = {
    "image": np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8),
    "state": np.float32([1, 2, 3]),
    "wide": np.float64([[1.5], [2.5]]),
    "flag": np.array([True, False]),
    "empty": np.zeros((0, 7), np.float32),
    "single": np.array(7, np.int16),
    "scalar": np.float32(0.5),
    "number": 3,
    "text": "pick up the cup",
    "nested": {"list": [1, 2.5, None]},
}


@pytest.mark.parametrize("dialect", wire.DIALECTS)
def test_what_goes_out_comes_in(dialect):
    found, asked = wire.unpacked(wire.packed(VALUES, dialect))
    assert asked == dialect and found.keys() == VALUES.keys()
    for key, value in VALUES.items():
        np.testing.assert_array_equal(found[key], value)
        assert getattr(found[key], "dtype", None) == getattr(value, "dtype", None), key
    assert isinstance(found["scalar"], np.float32)


def test_the_keys_are_those_of_each_package():
    array = np.float32([[1, 2]])
    header = {"dtype": "<f4", "shape": [1, 2], "data": array.tobytes()}
    expected = {
        wire.OPENPI: {b"__ndarray__": True, **{key.encode(): value for key, value in header.items()}},
        wire.TEXT_KEYS: {"__ndarray__": True, **header},
        wire.MSGPACK_NUMPY: {
            b"nd": True, b"type": "<f4", b"kind": b"", b"shape": [1, 2], b"data": array.tobytes(),
        },
    }  # fmt: skip
    for dialect, fields in expected.items():
        assert msgpack.unpackb(wire.packed({"a": array}, dialect)) == {"a": fields}
    assert wire.unpacked(msgpack.packb({"a": 1}))[1] == wire.OPENPI


def test_msgpack_numpy_itself_is_understood():
    package = pytest.importorskip("msgpack_numpy")
    found, dialect = wire.unpacked(msgpack.packb(VALUES, default=package.encode))
    np.testing.assert_array_equal(found["image"], VALUES["image"])
    again = msgpack.unpackb(wire.packed(found, dialect), object_hook=package.decode)
    np.testing.assert_array_equal(again["wide"], VALUES["wide"])


BAD = [
    {"dtype": "|O"},
    {"dtype": "|O8"},
    {"dtype": "|V4"},
    {"dtype": "<f4,<f4"},
    {"dtype": "(2,)<f4"},
    {"dtype": "S4"},
    {"dtype": "<U1"},
    {"dtype": "<c8"},
    {"dtype": "<M8"},
    {"dtype": ">f4"},
    {"dtype": "<f16"},
    {"dtype": "nonsense"},
    {"dtype": [["a", "<f4"]]},
    {"dtype": None},
    {"shape": [3]},
    {"shape": [-2]},
    {"shape": [-1, -2]},
    {"shape": [2**40, 2**40]},
    {"shape": [0, 2**62]},
    {"shape": [2.0]},
    {"shape": [True, 2]},
    {"shape": [2] + [1] * 70},
    {"shape": 2},
    {"shape": None},
    {"data": "text"},
    {"data": b""},
    {"data": None},
]


@pytest.mark.parametrize("dialect", wire.DIALECTS)
@pytest.mark.parametrize("fields", BAD)
def test_f2_no_array_is_built_of_a_bad_header(fields, dialect):
    header = {"dtype": "<f4", "shape": [2], "data": b"\0" * 8, **fields}
    if dialect == wire.MSGPACK_NUMPY:
        header = {"nd": True, "kind": "", "type": header.pop("dtype"), **header}
    else:
        header = {"__ndarray__": True, **header}
    if dialect != wire.TEXT_KEYS:
        header = {key.encode(): value for key, value in header.items()}
    with pytest.raises(WireError, match="an array"):
        wire.unpacked(msgpack.packb({"a": header}))


@pytest.mark.parametrize("number", ["1", 300, -1, None, [1]])
def test_f2_no_scalar_is_built_of_another_value(number):
    with pytest.raises(WireError, match="is no number of dtype"):
        wire.unpacked(msgpack.packb({"a": {b"__npgeneric__": True, b"data": number, b"dtype": "|u1"}}))


def test_arrays_of_objects_are_not_sent():
    for value in (np.array([object()]), np.array(["x"]), np.float32([1]) + 1j, object()):
        with pytest.raises(TypeError, match="no place in a frame"):
            wire.packed({"a": value})


@pytest.mark.parametrize(
    ("frame", "told"),
    [
        ("text", "a text, expected a binary frame"),
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (wire.packed(VALUES)[:-1], "no msgpack"),
        (wire.packed(VALUES) + b"\0", "no msgpack"),
        (b"\x91" * 3000 + b"\x90", "no msgpack"),
        (msgpack.packb([1, 2]), "a list, expected a map"),
        (msgpack.packb(np.pi), "a float, expected a map"),
        (wire.packed({1: 2}), "no msgpack"),
        (msgpack.packb({"a": msgpack.ExtType(5, b"x")}), "no msgpack"),
        (msgpack.packb({"a": "x" * 70_000}), "no msgpack"),
        (msgpack.packb({"a": [0.0] * 20_000}), "no msgpack"),
        (msgpack.packb({"a": [[0.0] * 2000] * 20}), "more than 10000 values"),
        (msgpack.packb({str(i): {} for i in range(10_001)}), "no msgpack"),
    ],
)
def test_f1_what_is_no_map_within_bounds_is_refused(frame, told):
    with pytest.raises(WireError, match=told):
        wire.unpacked(frame)
