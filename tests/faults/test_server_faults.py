"""What clients do to the policy server: faults F3 to F7, F10, F11."""

import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest
from running_server import RawClient, page, running

from farsighted_jax.serving import wire
from farsighted_jax.serving.errors import ServingError

pytest.importorskip("websockets", reason="pip install -e '.[serve]'")
pytest.importorskip("msgpack", reason="pip install -e '.[serve]'")

from served_policy import Client, closed_with, eventually, infer, pixel_of, policy, request, server  # noqa: E402
from websockets.asyncio.client import connect  # noqa: E402
from websockets.exceptions import InvalidStatus  # noqa: E402


def test_f5_64_clients_each_get_their_own_answer():
    async def talk():
        acting = policy()
        acting.seconds = 0.01
        async with running(server(acting, batch_size=8).serve) as port:

            async def client(number):
                async with Client(port) as own:
                    return [pixel_of(await infer(own, request(pixel))) for pixel in (number, number + 100)]

            found = await asyncio.gather(*(client(number) for number in range(64)))
            assert found == [[number, number + 100] for number in range(64)]
            assert {size for size, _ in acting.batches} <= {1, 2, 4, 8}

    asyncio.run(talk())


def test_f5_overload_is_answered():
    async def talk():
        acting = policy()
        served = server(acting, capacity=2)
        async with running(served.serve) as port:
            acting.gate = threading.Event()
            acting.seen.clear()
            clients = [await Client(port).__aenter__() for _ in range(5)]
            asked = [asyncio.create_task(infer(clients[0], request(0)))]
            await eventually(lambda: acting.seen and not len(served._batcher))
            asked += [asyncio.create_task(infer(clients[n], request(n))) for n in range(1, 5)]
            done, _ = await asyncio.wait(asked, timeout=5, return_when=asyncio.FIRST_COMPLETED)
            assert done and all(task.result().startswith("Overloaded: 2 requests wait") for task in done)
            acting.gate.set()
            replies = await asyncio.gather(*asked)
            refused = [n for n, reply in enumerate(replies) if isinstance(reply, str)]
            assert len(refused) == 2 and await closed_with(clients[refused[0]]) == 1013
            assert all(pixel_of(replies[n]) == n for n in range(5) if n not in refused)
            for client in clients:
                await client.close()

    asyncio.run(talk())


def test_f6_health_is_answered_at_once_during_an_inference():
    async def talk():
        acting = policy()
        async with running(server(acting).serve) as port, Client(port) as client:
            acting.gate = threading.Event()
            acting.seen.clear()
            asking = asyncio.create_task(infer(client, request(3)))
            await asyncio.sleep(0.05)
            seconds = []
            for _ in range(9):
                started = time.monotonic()
                assert await page(port, "/healthz") == "OK\n"
                seconds.append(time.monotonic() - started)
            # Of a server that waits for the policy none would come at all; a busy machine delays some.
            assert min(seconds) < 0.05 and not asking.done()
            acting.gate.set()
            assert pixel_of(await asking) == 3

    asyncio.run(talk())


def test_f3_a_frame_over_the_limit_is_refused_before_it_is_read():
    async def talk():
        async with running(server().serve) as port, Client(port) as other:
            for size in (32 * 2**20 + 1, 2**62):
                async with RawClient(port) as client:
                    # The header of a frame alone: whoever waited for the rest would wait for ever.
                    client.write(b"\x82\xff" + size.to_bytes(8, "big") + bytes(4))
                    assert await client.close_code() == 1009
            assert pixel_of(await infer(other, request(5))) == 5

    asyncio.run(talk())


def test_f4_a_pickle_in_a_message_is_never_loaded(tmp_path):
    canary = tmp_path / "canary"
    # What pickle would make of it: os.system("touch ...").
    pickled = f"cos\nsystem\n(S'touch {canary}'\ntR.".encode()
    frames = [
        {b"nd": True, b"type": "|O", b"kind": b"O", b"shape": [1], b"data": pickled},
        {b"nd": False, b"type": "|O", b"data": pickled},
        {b"__ndarray__": True, b"dtype": "|O", b"shape": [1], b"data": pickled},
        {b"__npgeneric__": True, b"dtype": "|O", b"data": pickled},
        {b"complex": True, b"data": f"__import__('os').system('touch {canary}')"},
        pickled,
    ]

    async def talk():
        async with running(server().serve) as port:
            for value in frames:
                async with Client(port) as client:
                    told = await infer(client, request(**{"observation/state": value}))
                    assert isinstance(told, str) and told.startswith(
                        ("WireError: an array", "RequestError")
                    ), told

    asyncio.run(talk())
    assert not canary.exists()


HALF = b"\x82\xfe\x10\x00" + bytes(4) + b"half"


async def leave_mid_inference(port):
    async with RawClient(port) as client:
        client.send(wire.packed(request()))
        await asyncio.sleep(0)
        client.abort()


async def stop_half_way(port):
    async with RawClient(port) as client:
        client.write(HALF)


async def never_shake_hands(port):
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.close()


@pytest.mark.parametrize("cycles", [20, pytest.param(1000, marks=pytest.mark.slow)])
def test_f7_who_leaves_leaves_nothing_behind(cycles):
    async def talk():
        served = server(capacity=4)
        async with running(served.serve) as port:
            async with Client(port) as client:
                assert pixel_of(await infer(client, request(9))) == 9
            before = len(asyncio.all_tasks()), num_sockets()
            for _ in range(cycles):
                for leave in (leave_mid_inference, stop_half_way, never_shake_hands):
                    await leave(port)
            await eventually(lambda: served.metrics.connections == 0 and len(served._batcher) == 0)
            await eventually(lambda: (len(asyncio.all_tasks()), num_sockets()) <= before)
            async with Client(port) as client:
                assert pixel_of(await infer(client, request(9))) == 9

    asyncio.run(talk())


def num_sockets():
    return len(os.listdir("/proc/self/fd"))


def test_f7_the_place_of_a_client_that_left_the_queue_is_free():
    async def talk():
        acting = policy()
        served = server(acting, capacity=1)
        async with running(served.serve) as port, Client(port) as first, Client(port) as last:
            acting.gate = threading.Event()
            acting.seen.clear()
            asking = asyncio.create_task(infer(first, request(1)))
            await eventually(lambda: acting.seen and not len(served._batcher))
            await leave_mid_inference(port)
            await eventually(lambda: served.metrics.connections == 2 and not len(served._batcher))
            waiting = asyncio.create_task(infer(last, request(2)))
            await eventually(lambda: len(served._batcher) == 1)
            acting.gate.set()
            assert [pixel_of(await task) for task in (asking, waiting)] == [1, 2]

    asyncio.run(talk())


def test_f7_who_is_silent_or_does_not_read_is_let_go():
    async def talk():
        served = server(outputs=("imagined",), idle_s=0.2, send_s=0.2)
        service = served._service
        service.policy.compute = lambda name, batch, **options: np.zeros((1, 2**24 // 4, 1), np.float32)
        async with running(served.serve) as port:
            async with RawClient(port) as silent:
                silent.write(HALF)
                await eventually(lambda: served.metrics.connections == 0)
            async with RawClient(port) as deaf:
                # Buffers take what fits in them; more than that is not read.
                deaf.send(wire.packed(request()))
                await eventually(lambda: "inference_seconds_count 1" in served.metrics.text())
                await eventually(lambda: served.metrics.connections == 0)

    asyncio.run(talk())


def test_f10_another_address_needs_a_token_and_a_token_is_needed_then():
    with pytest.raises(ServingError, match="give a token, or take 127.0.0.1"):
        asyncio.run(server().serve("0.0.0.0", 0))

    async def talk():
        served = server()
        async with running(
            lambda host, port, ready: served.serve("0.0.0.0", 0, token="s3", ready=ready)
        ) as port:
            assert await page(port, "/healthz") == "OK\n"
            for headers in ({}, {"Authorization": "Api-Key wrong"}, {"Authorization": "s3"}):
                with pytest.raises(InvalidStatus, match="401"):
                    await connect(f"ws://127.0.0.1:{port}", additional_headers=headers)
            async with Client(port, additional_headers={"Authorization": "Api-Key s3"}) as client:
                assert pixel_of(await infer(client, request(8))) == 8

    asyncio.run(talk())


def test_f10_pages_in_a_browser_and_too_many_clients_are_not_admitted():
    async def talk():
        served = server()

        async def serve(host, port, ready):
            await served.serve(host, port, ready=ready, max_connections=1)

        async with running(serve) as port:
            with pytest.raises(InvalidStatus, match="403"):
                await connect(f"ws://127.0.0.1:{port}", origin="http://127.0.0.1")
            async with Client(port):
                with pytest.raises(InvalidStatus, match="503"):
                    await connect(f"ws://127.0.0.1:{port}")

    asyncio.run(talk())


def test_f11_sigterm_lets_what_was_asked_be_answered():
    async def talk():
        acting = policy()
        loop, ready = asyncio.get_running_loop(), asyncio.Event()
        found = {}

        def listening(port):
            found["port"] = port
            ready.set()

        serving = loop.create_task(server(acting).serve("127.0.0.1", 0, ready=listening))
        await ready.wait()
        async with Client(found["port"]) as client, Client(found["port"]) as idle:
            acting.gate = threading.Event()
            acting.seen.clear()
            asking = asyncio.create_task(infer(client, request(6)))
            await eventually(lambda: acting.seen)
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.wait_for(idle.wait_closed(), timeout=5)
            assert idle.close_code == 1001
            with pytest.raises(OSError):
                await connect(f"ws://127.0.0.1:{found['port']}")
            acting.gate.set()
            assert pixel_of(await asking) == 6
            await asyncio.wait_for(serving, timeout=5)
            await client.wait_closed()
            assert client.close_code == 1001

    asyncio.run(talk())
