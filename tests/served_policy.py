"""A policy server in the test's own event loop, and clients of it."""

import asyncio
import time

import numpy as np
import pytest
from acting_policy import ActingPolicy
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosedError

from farsighted_jax.serving import wire
from farsighted_jax.serving.key_layouts import layout_for
from farsighted_jax.serving.server import PolicyServer
from farsighted_jax.serving.service import PolicyService


class SlowPolicy(ActingPolicy):
    """Answers `seconds` after it was asked, or when `gate` is opened."""

    seconds, gate = 0.0, None

    def compute(self, name, batch, **options):
        time.sleep(self.seconds)
        if self.gate:
            self.gate.wait(60)
        return super().compute(name, batch, **options)


def policy(**options):
    groups = ("context", "vision", "plan", "action")
    keys = ("rgb", "state", "instruction")
    return SlowPolicy(cameras=("primary", "wrist"), keys=keys, groups=groups, **options)


def server(acting=None, *, batch_size=1, outputs=(), **options):
    acting = acting or policy()
    layout = layout_for("libero", acting, {}, ())
    return PolicyServer(
        PolicyService(acting, layout=layout, batch_size=batch_size, outputs=outputs), **options
    )


def request(pixel=10, **more):
    image = np.full((4, 5, 3), pixel, np.uint8)
    return {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": np.zeros(8),
        "prompt": "pick",
        **more,
    }


async def infer(client, fields, dialect=wire.OPENPI):
    await client.send(wire.packed(fields, dialect))
    reply = await client.recv()
    if isinstance(reply, str):
        return reply
    found, answered_in = wire.unpacked(reply)
    assert answered_in == dialect
    return found


async def closed_with(client):
    with pytest.raises(ConnectionClosedError) as closed:
        await client.recv()
    return closed.value.rcvd.code


def pixel_of(reply):
    return round(float(reply["actions"][0, 1] * 100))


class Client:
    """A connection whose greeting was read."""

    def __init__(self, port, **options):
        self._connection = connect(f"ws://127.0.0.1:{port}", compression=None, **options)

    async def __aenter__(self):
        client = await self._connection.__aenter__()
        client.greeting = wire.unpacked(await client.recv())[0]
        return client

    async def __aexit__(self, *error):
        await self._connection.__aexit__(*error)


async def eventually(holds, seconds=30):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
