"""Frames that nobody meant to send (fault F1) are answered by typed errors, and others do not notice."""

import asyncio
import re
from collections import Counter

import msgpack
import numpy as np
import pytest
from acting_policy import ActingPolicy
from running_server import RawClient, running

from farsighted_jax.serving import wire
from farsighted_jax.serving.errors import ServingError
from farsighted_jax.serving.key_layouts import layout_for
from farsighted_jax.serving.observation import ObservationError
from farsighted_jax.serving.server import RESET, PolicyServer
from farsighted_jax.serving.service import PolicyService

pytest.importorskip("websockets", reason="pip install -e '.[serve]'")

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 5, 3), dtype=np.uint8)
REQUEST = {
    "observation/image": IMAGE,
    "observation/wrist_image": IMAGE,
    "observation/state": np.arange(8.0),
    "prompt": "pick",
    "outputs": [],
    "endpoint": "infer",
    "embodiment": "toy",
}
ARRAY = {b"__ndarray__": True, b"dtype": "<f4", b"shape": [2], b"data": bytes(8)}
ODD = (
    ARRAY,
    [ARRAY],
    None,
    True,
    -1,
    2**63,
    1e300,
    float("nan"),
    "",
    "x",
    "\x00" * 50,
    b"",
    b"\xff",
    [],
    {},
    [[]],
    [1, "a"],
)
SEEDS = [wire.packed(REQUEST, dialect) for dialect in wire.DIALECTS]
TYPED = re.compile(rf"(WireError|RequestError|ObservationError): |actions$|{RESET}$")


def fuzzed(rng):
    """A frame: noise, a broken request, one nested deeply, or a whole one with odd values in it."""
    kind = rng.random()
    if kind < 0.1:
        return rng.bytes(int(rng.integers(300)))
    if kind < 0.15:
        depth = int(rng.integers(1, 4000))
        return rng.choice([b"\x91", b"\x81\xa1a"]) * depth + b"\x90"
    if kind < 0.2:
        return msgpack.packb(ODD[rng.integers(len(ODD))])
    if kind < 0.5:
        return msgpack.packb(_odd(msgpack.unpackb(SEEDS[rng.integers(3)]), rng))
    data = bytearray(SEEDS[rng.integers(3)])
    for _ in range(int(rng.integers(1, 8))):
        data[int(rng.integers(len(data)))] = int(rng.integers(256))
    if kind > 0.8:
        del data[int(rng.integers(len(data))) :]
    return bytes(data)


def _odd(fields, rng):
    """A map with one value, somewhere in it, that is another."""
    key = list(fields)[rng.integers(len(fields))]
    inside = isinstance(fields[key], dict) and rng.random() < 0.8
    return {**fields, key: _odd(fields[key], rng) if inside else ODD[rng.integers(len(ODD))]}


def service(policy):
    return PolicyService(policy, layout=layout_for("libero", policy, {}, ()))


def acting():
    return ActingPolicy(cameras=("primary", "wrist"), keys=("rgb", "state", "instruction"))


def fuzz_reading(num_cases, seed=0):
    """Reads frames without a network; how many were requests after all."""
    rng, served, good = np.random.default_rng(seed), service(acting()), 0
    for _ in range(num_cases):
        frame = fuzzed(rng)
        try:
            fields, _ = wire.unpacked(frame)
            served.read(fields)
            good += 1
        except (ServingError, ObservationError) as error:
            assert len(str(error)) < 1000
    return good


async def fuzz_server(num_cases, clients=8, seed=0):
    """Sends frames to a server, while someone else asks what is right; counts of answers by type."""
    counts, left = Counter(), iter(range(num_cases))

    async def attack(port, rng):
        client = None
        for _ in left:
            client = client or await RawClient(port).__aenter__()
            client.send(fuzzed(rng))
            opcode, data = await client.read()
            text = data.decode() if opcode == 1 else "actions"
            assert TYPED.match(text) and "Traceback" not in text and "\n" not in text, text
            counts[text.partition(":")[0]] += 1
            if text not in ("actions", RESET):
                assert await client.close_code() == 1011
                client.abort()
                client = None
        if client:
            client.abort()

    async def bystander(port, over):
        asked = 0
        async with RawClient(port) as client:
            while not over.is_set() or not asked:
                pixel = asked % 250
                client.send(wire.packed({**REQUEST, "observation/image": np.full_like(IMAGE, pixel)}))
                found, _ = wire.unpacked((await client.read())[1])
                assert round(float(found["actions"][0, 1] * 100)) == pixel
                asked += 1
                await asyncio.sleep(0.01)

    async with running(PolicyServer(service(acting())).serve) as port:
        over = asyncio.Event()
        watching = asyncio.create_task(bystander(port, over))
        rngs = [np.random.default_rng([seed, number]) for number in range(clients)]
        await asyncio.gather(*(attack(port, rng) for rng in rngs))
        over.set()
        await watching
    return counts


@pytest.mark.parametrize("num_cases", [2000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_f1_fuzzed_frames_raise_only_what_was_foreseen(num_cases):
    assert 0 < fuzz_reading(num_cases) < num_cases / 2


@pytest.mark.parametrize("num_cases", [200, pytest.param(100_000, marks=pytest.mark.drill)])
def test_f1_fuzzed_frames_are_answered_by_typed_errors(num_cases):
    counts = asyncio.run(fuzz_server(num_cases))
    assert sum(counts.values()) == num_cases and {"WireError", "RequestError", "actions"} <= counts.keys(), (
        counts
    )
