"""The client in one file: numpy and the standard library, Python 3.8, and the server understands it."""

import ast
import asyncio
import sys
import threading
from pathlib import Path

import msgpack
import numpy as np
import pytest
from running_server import running

from farsighted_jax.serving import client as client_module
from farsighted_jax.serving import wire
from farsighted_jax.serving.client import PolicyClient, PolicyServerError, packed, unpacked

pytest.importorskip("websockets", reason="pip install -e '.[serve]'")

from served_policy import pixel_of, policy, request, server  # noqa: E402

VALUES = {
    "numbers": [0, 1, 127, 128, -1, -32, -33, 255, 2**16, 2**32, 2**63, -(2**63), 1.5, -1e300],
    "constants": [None, True, False],
    "texts": ["", "é", "x" * 31, "x" * 32, "x" * 256, "x" * 70_000, b"", b"\xff" * 256, b"\xff" * 70_000],
    "many": list(range(20)) + [[0] * 70_000],
    "map": {f"{key}": key for key in range(20)},
    "array": np.arange(6, dtype=np.float32).reshape(2, 3),
    "turned": np.arange(6, dtype=np.uint8).reshape(2, 3).T,
    "swapped": np.arange(3, dtype=">f4"),
    "single": np.array(7),
}


def test_it_packs_what_msgpack_unpacks_and_the_other_way_round():
    plain = {key: value for key, value in VALUES.items() if not isinstance(value, np.ndarray)}
    assert msgpack.unpackb(packed(plain)) == plain and unpacked(msgpack.packb(plain)) == plain
    for found in (
        unpacked(packed(VALUES)),
        unpacked(wire.packed({**VALUES, "swapped": np.float32([0, 1, 2])})),
    ):
        for key in ("array", "turned", "swapped", "single"):
            np.testing.assert_array_equal(found[key], VALUES[key])
            assert found[key].flags.writeable
    assert packed({"a": np.float32(0.5)}) == packed({"a": 0.5})
    for value in (object(), np.array([object()]), {"a": {1, 2}}):
        with pytest.raises(TypeError, match="no place in a message"):
            packed(value)
    for data in (packed(1) + b"\0", b"\xc1", b"\xd4\x00\x00"):
        with pytest.raises(ValueError):
            unpacked(data)


def test_it_needs_numpy_alone_and_no_new_python():
    tree = ast.parse(Path(client_module.__file__).read_text(encoding="utf-8"), feature_version=(3, 8))
    names = [node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names += [name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names]
    assert {name.partition(".")[0] for name in names} <= {*sys.stdlib_module_names, "numpy"}


def test_it_talks_with_the_server():
    async def talk():
        served = server(policy(), outputs=("plan",))

        async def serve(host, port, ready):
            await served.serve(host, port, ready=ready, token="s3")

        async with running(serve) as port:
            await asyncio.to_thread(ask, port)

    def ask(port):
        with PolicyClient(port=port, token="s3", timeout_s=30) as client:
            assert client.metadata["horizon"] == 6
            for pixel in (3, 4):
                assert pixel_of(client.infer(request(pixel))) == pixel
            client.reset()
            # Larger than one frame header's short form, and answered with another output.
            large = np.full((300, 400, 3), 9, np.uint8)
            reply = client.infer(request(**{"observation/image": large, "outputs": ["plan"]}))
            assert pixel_of(reply) == 9 and reply["plan"].tolist() == [9] * 3
            with pytest.raises(PolicyServerError, match="'prompt' is of type int, expected a text") as told:
                client.infer(request(prompt=5))
            assert told.value.kind == "RequestError"
            with pytest.raises(ConnectionError):
                client.infer(request())
        with pytest.raises(PolicyServerError, match="Refused: HTTP/1.1 401 Unauthorized"):
            PolicyClient(port=port, token="guess", timeout_s=30)

    asyncio.run(talk())


def test_an_answer_that_came_too_late_is_never_taken_for_that_to_another_question():
    async def talk():
        slow = policy()
        async with running(server(slow).serve) as port:
            slow.gate = threading.Event()
            await asyncio.to_thread(ask, port, slow.gate)

    def ask(port, gate):
        client = PolicyClient(port=port, timeout_s=30)
        client._socket.settimeout(0.3)
        with pytest.raises(OSError, match="timed out"):
            client.infer(request(1))
        gate.set()
        with pytest.raises(OSError):
            client.infer(request(2))
        client.close()

    asyncio.run(talk())
