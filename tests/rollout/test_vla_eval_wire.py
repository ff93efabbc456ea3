"""Messages of vla-eval: what goes out comes in, and nothing else does."""

import zlib

import cv2
import msgpack
import numpy as np
import pytest

from farsighted_jax.rollout import vla_eval_wire as wire
from farsighted_jax.rollout.vla_eval_wire import Message, packed, unpacked
from farsighted_jax.serving.errors import WireError

IMAGE = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def frame(payload, **fields):
    """As the package packs it; its arrays are maps."""
    whole = {"type": "observation", "payload": payload, "seq": 3, "timestamp": 1.0, **fields}
    return msgpack.packb(whole, use_bin_type=True)


def png(image):
    return cv2.imencode(".png", image[..., ::-1])[1].tobytes()


def array(**fields):
    return {"__ndarray__": True, "dtype": "<f4", "shape": [2], "data": b"\0" * 8, **fields}


def image(**fields):
    return {"__image__": True, "format": "png", "data": png(IMAGE), "shape": [6, 8, 3], **fields}


def test_what_goes_out_comes_in():
    payload = {
        "actions": np.float32([[1, 2], [3, 4]]),
        "flag": np.array(True),
        "nested": [{"text": "x"}],
    }
    message = unpacked(packed(Message(wire.ACTION, payload, 5)))
    assert (message.type, message.seq) == ("action", 5)
    np.testing.assert_array_equal(message.payload["actions"], payload["actions"])
    assert message.payload["actions"].dtype == np.float32
    assert message.payload["flag"].dtype == bool
    assert message.payload["nested"] == [{"text": "x"}]
    fields = msgpack.unpackb(packed(message))
    assert set(fields) == {"type", "payload", "seq", "timestamp"}
    assert fields["payload"]["actions"].keys() == {"__ndarray__", "data", "dtype", "shape"}


def test_images_come_packed_or_raw():
    raw = image(format="raw", data=IMAGE.tobytes(), dtype="|u1")
    payload = unpacked(frame({"images": {"png": image(), "raw": raw}})).payload["images"]
    np.testing.assert_array_equal(payload["png"], IMAGE)
    np.testing.assert_array_equal(payload["raw"], IMAGE)


@pytest.mark.parametrize(
    "fields",
    [
        {"dtype": "|O"},
        {"dtype": "|V4"},
        {"dtype": "<f4,<f4"},
        {"dtype": "S4"},
        {"dtype": ">f4"},
        {"dtype": "nonsense"},
        {"dtype": 5},
        {"dtype": None},
        {"shape": [3]},
        {"shape": [-1]},
        {"shape": [2**40, 2**40]},
        {"shape": [2.0]},
        {"shape": [True, 2]},
        {"shape": 2},
        {"data": "text"},
        {"data": b""},
    ],
)
def test_no_array_is_built_of_a_bad_header(fields):
    with pytest.raises(WireError, match="an array"):
        unpacked(frame({"states": array(**fields)}))


@pytest.mark.parametrize(
    "fields",
    [
        {"data": b"\x89PNG\r\n\x1a\nbroken"},
        {"data": png(IMAGE)[:40]},
        {"data": b""},
        {"data": "text"},
        {"format": "jpeg"},
        {"shape": [8, 6, 3]},
        {"shape": None},
        {"format": None},
        {"format": "raw"},
    ],
)
def test_a_bad_image_is_told(fields):
    with pytest.raises(WireError):
        unpacked(frame({"images": {"agentview": image(**fields)}}))


@pytest.mark.parametrize(
    ("width", "height", "shape"), [(40_000, 8, [6, 8, 3]), (30_000, 30_000, [30_000, 30_000, 3])]
)
def test_a_small_file_does_not_become_a_large_image(width, height, shape):
    data = bytearray(png(IMAGE))
    data[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    with pytest.raises(WireError, match="at most 16777216 pixels"):
        unpacked(frame({"images": image(data=bytes(data), shape=shape)}))


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ("text", "a text"),
        (b"", "no msgpack"),
        (b"\xc1", "no msgpack"),
        (msgpack.packb({"type": "hello"})[:-2], "no msgpack"),
        (b"\x91" * 3000 + b"\x90", "no msgpack"),
        (msgpack.packb([1, 2]), "a map with a type"),
        (frame({}, type="shutdown"), "a map with a type"),
        (frame([], type="hello"), "a map 'payload'"),
        (frame({}, seq="x"), "a number 'seq'"),
    ],
)
def test_what_is_no_message_is_refused(data, told):
    with pytest.raises(WireError, match=told):
        unpacked(data)


def test_random_bytes_never_raise_anything_else():
    rng = np.random.default_rng(1)
    whole = frame({"images": {"a": image()}, "states": array()})
    for _ in range(3000):
        data = bytearray(whole) if rng.random() < 0.7 else bytearray(rng.bytes(int(rng.integers(200))))
        for _ in range(int(rng.integers(1, 6))):
            if data:
                data[int(rng.integers(len(data)))] = int(rng.integers(256))
        if rng.random() < 0.3:
            data = data[: int(rng.integers(len(data) + 1))]
        try:
            unpacked(bytes(data))
        except WireError:
            pass


def test_what_has_no_place_in_a_message_is_told():
    with pytest.raises(TypeError, match="object has no place"):
        packed(Message(wire.ACTION, {"actions": object()}))
