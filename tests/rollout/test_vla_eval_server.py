"""A policy as vla-eval's model server: without a network, over one, and with the package's own client."""

import asyncio
import dataclasses
import functools
import importlib.util
import os
import re
import signal

import numpy as np
import pytest
from acting_policy import ActingPolicy
from running_server import page, running

from farsighted_jax.rollout import vla_eval_wire as wire
from farsighted_jax.rollout.benchmarks import BENCHMARKS
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.vla_eval_server import BenchmarkPolicy, Conversation, serve
from farsighted_jax.serving import listening
from farsighted_jax.serving.batcher import Batcher
from farsighted_jax.serving.errors import ServingError

needs_websockets = pytest.mark.skipif(
    importlib.util.find_spec("websockets") is None, reason="needs the extra 'serve'"
)
needs_vla_eval = pytest.mark.skipif(importlib.util.find_spec("vla_eval") is None, reason="needs vla-eval")


def acting(benchmark="libero", *, execute=2, batch_size=1, **policy):
    return BenchmarkPolicy(ActingPolicy(**policy), benchmark, execute=execute, batch_size=batch_size)


def libero(pixel=10, **more):
    """As vla-eval's LIBERO sends it."""
    image = np.full((8, 8, 3), pixel, np.uint8)
    image[-1, -1] = 200
    return {"images": {"agentview": image, "wrist": image}, "task_description": "pick", **more}


def frame(type_, payload, seq=1):
    return wire.packed(wire.Message(type_, payload, seq))


class Talk:
    """A conversation without a network."""

    def __init__(self, service):
        self.batcher = Batcher(service.chunks, service.batch_size)
        self.conversation = Conversation(service, self.batcher.ask)

    def say(self, *frames):
        async def talk():
            running = asyncio.create_task(self.batcher.run())
            try:
                return [await self.conversation.answer(data) for data in frames]
            finally:
                running.cancel()

        return [reply and wire.unpacked(reply) for reply in asyncio.run(talk())]


def actions(replies):
    assert [reply.type for reply in replies] == ["action"] * len(replies), replies
    return np.stack([reply.payload["actions"] for reply in replies])


def test_hello_asks_for_what_the_policy_reads():
    service = acting(cameras=("primary", "wrist"), keys=("rgb", "state", "instruction"))
    (reply,) = Talk(service).say(frame("hello", {"protocol_version": 1, "harness_version": "0.8.0"}, 7))
    assert (reply.type, reply.seq) == ("hello", 7) and reply.payload["protocol_version"] == 1
    asked = {"send_wrist_image": True, "send_state": True, "quat_no_antipodal": True}
    assert reply.payload["observation_params"] == asked
    (reply,) = Talk(acting()).say(frame("hello", {"protocol_version": 2}))
    assert reply.type == "error" and "protocol version 2, expected 1" in reply.payload["error"]


def test_one_action_a_step_and_a_new_chunk_when_it_is_used_up():
    service = acting(execute=2)
    pixels = (10, 20, 30, 40)
    replies = Talk(service).say(*(frame("observation", libero(p), p) for p in pixels))
    chunk = actions(replies)
    assert chunk.shape == (4, 7) and chunk.dtype == np.float32
    assert [reply.seq for reply in replies] == list(pixels)
    # 5 cm a command: x tells the place in the chunk, y the picture that was seen when it was asked.
    np.testing.assert_allclose(chunk[:, 0], np.array([0, 1, 0, 1]) / 100 / 0.05, atol=1e-6)
    np.testing.assert_allclose(chunk[:, 1], np.clip(np.array([10, 10, 30, 30]) / 5, -1, 1), atol=1e-6)
    assert (chunk[:, 6] == -1).all(), "an open gripper is -1 in LIBERO"
    assert [seed for _, seed in service._policy.batches] == [0, 1]


@pytest.mark.parametrize("begins", ["episode_start", "episode_end", "flag"])
def test_an_episode_begins_without_what_was_left(begins):
    service = acting(execute=4, history=(1, 0))
    flag = {"episode_restart": True} if begins == "flag" else {}
    between = [] if begins == "flag" else [frame(begins, {"task": {"name": "x"}})]
    replies = Talk(service).say(
        frame("observation", libero(0)), *between, frame("observation", libero(1, **flag))
    )
    first, *silent, second = replies
    assert silent == [None] * len(between)
    np.testing.assert_allclose(actions([first, second])[:, 0], 0, atol=1e-6)
    assert [len(seen["rgb"]["primary"]) for seen in service._policy.seen] == [1, 1]


def test_a_history_has_every_frame_also_those_at_which_nobody_was_asked():
    service = acting(execute=3, history=(2, 1, 0))
    Talk(service).say(*(frame("observation", libero(p)) for p in range(4)))
    frames = service._policy.seen[-1]["rgb"]["primary"]
    assert frames[:, 0, 0, 0].tolist() == [1, 2, 3]


def test_pictures_go_the_way_the_dataset_stores_them():
    for rotate_180, pixel in ((False, 10), (True, 200)):
        service = acting(rotate_180=rotate_180)
        Talk(service).say(frame("observation", libero(10)))
        assert service._policy.seen[0]["rgb"]["primary"][0, 0, 0, 0] == pixel


@pytest.mark.parametrize(
    ("benchmark", "hz", "cameras", "images", "width"),
    [
        ("libero", 20, ("primary", "wrist"), {"agentview": 3, "wrist": 4}, 8),
        ("calvin", 30, ("primary", "wrist"), {"rgb_static": 3, "rgb_gripper": 4}, 8),
        ("simpler-widowx", 5, ("primary",), {"primary": 3}, 7),
        ("simpler-google", 3, ("primary",), {"primary": 3}, 8),
    ],
)
def test_each_benchmark_is_read_by_its_keys(benchmark, hz, cameras, images, width):
    service = acting(benchmark, hz=hz, cameras=cameras, keys=("rgb", "state", "instruction"))
    payload = {
        "images": {key: np.full((4, 4, 3), pixel, np.uint8) for key, pixel in images.items()},
        "states": np.array([0.1, 0.2, 0.3, 1, 0, 0, 0, 1]),
        "task_description": "go",
    }
    actions(Talk(service).say(frame("observation", payload)))
    (seen,) = service._policy.seen
    assert [seen["rgb"][role][0, 0, 0, 0] for role in cameras] == list(images.values())
    assert seen["state"].shape == (width,) and seen["instruction"] == "go"
    np.testing.assert_allclose(seen["state"][:3], [0.1, 0.2, 0.3], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"images": {}}, "'agentview' is missing, expected an image"),
        ({"images": {"agentview": np.zeros((4, 4, 3), np.float32)}}, r"'agentview' is float32\[4, 4, 3\]"),
        ({"images": None}, "'images' is missing; it has"),
        ({"states": np.zeros(7)}, r"'states' is float64\[7\], expected 8 numbers"),
        ({"states": "x"}, "'states' is a str"),
        ({"task_description": None}, "'task_description' is missing"),
        ({"task_description": "unreadable"}, "'instruction' is unreadable"),
    ],
)
def test_a_bad_observation_is_told_and_the_next_one_is_answered(change, told):
    service = acting(keys=("rgb", "state", "instruction"))
    good = libero(states=np.zeros(8) + 1)
    bad, fine = Talk(service).say(frame("observation", {**good, **change}, 4), frame("observation", good, 5))
    assert (bad.type, bad.seq, fine.type, fine.seq) == ("error", 4, "action", 5)
    assert re.search(told, bad.payload["error"]), bad.payload


def test_what_is_no_message_of_a_client_is_told():
    garbage, text, action, odd = Talk(acting()).say(
        b"\xc1", "hello", frame("action", {}, 9), frame("observation", {"images": 5}, 3)
    )
    assert [reply.type for reply in (garbage, text, action, odd)] == ["error"] * 4
    assert "a message of type 'action'" in action.payload["error"] and action.seq == 9
    assert Talk(acting()).say(frame("error", {"error": "x"})) == [None]


def test_actions_that_are_not_finite_are_never_sent():
    service = acting()
    service._policy.poison = np.nan
    (reply,) = Talk(service).say(frame("observation", libero()))
    assert reply.type == "error" and "not finite" in reply.payload["error"]


def test_an_error_that_nobody_foresaw_says_nothing_of_the_code():
    service = acting()
    service._policy.poison = "x"
    (reply,) = Talk(service).say(frame("observation", libero()))
    assert reply.payload == {"error": "internal error, see the server's log"}


def test_questions_that_wait_are_asked_together_in_batches_of_one_size():
    service = acting(execute=1, batch_size=3)
    batcher = Batcher(service.chunks, 3)

    async def ask():
        running = asyncio.create_task(batcher.run())
        talks = [Conversation(service, batcher.ask) for _ in range(5)]
        frames = [frame("observation", libero(pixel), pixel) for pixel in range(5)]
        frames[1] = frame("observation", libero() | {"task_description": "unreadable"}, 1)
        replies = await asyncio.gather(*(t.answer(f) for t, f in zip(talks, frames, strict=True)))
        running.cancel()
        return [wire.unpacked(reply) for reply in replies]

    replies = asyncio.run(ask())
    # One that cannot be read is told so alone; everyone else gets the answer to their own picture.
    assert [reply.type for reply in replies] == ["action", "error"] + ["action"] * 3
    for reply in replies[:1] + replies[2:]:
        expected = min(reply.seq / 100 / 0.05, 1)
        assert reply.payload["actions"][1] == pytest.approx(expected)
    assert {size for size, _ in service._policy.batches} == {3}


@pytest.mark.parametrize(
    ("benchmark", "policy", "told"),
    [
        ("libero", {"horizon": 1}, "gives 1 actions a chunk, expected 2"),
        ("libero", {"hz": 5}, "come at 5 Hz, not 20"),
        ("calvin", {"hz": 30, "rotation": "axis_angle"}, "only 'rpy' will do"),
        ("simpler-widowx", {"hz": 5, "cameras": ("primary", "wrist")}, r"sees camera\(s\) \['wrist'\]"),
        ("simpler-google", {"hz": 3, "units": ("1", "1")}, "how many metres is not known"),
    ],
)
def test_a_policy_that_cannot_act_there_is_refused(benchmark, policy, told):
    with pytest.raises(RolloutError, match=told):
        acting(benchmark, **policy)


def test_another_machine_needs_a_token():
    with pytest.raises(ServingError, match="give a token, or take 127.0.0.1"):
        asyncio.run(serve(acting(), "0.0.0.0", 0))


def served(service, **options):
    return running(functools.partial(serve, service, **options))


@needs_websockets
def test_over_a_network(monkeypatch):
    smaller = functools.partial(listening.listen, max_frame_bytes=2**16)
    monkeypatch.setattr(listening, "listen", smaller)
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosedError, InvalidStatus

    async def talk():
        service = acting(execute=1)
        async with served(service, token="secret") as port:
            assert len(service._policy.batches) == 1, "compiled before the port is bound"
            assert await page(port, "/health") == '{"status": "ok"}\n'
            with pytest.raises(InvalidStatus, match="401"):
                await connect(f"ws://127.0.0.1:{port}/guess")
            address = f"ws://127.0.0.1:{port}/secret"
            async with connect(address) as client, connect(address) as greedy:
                await client.send(frame("observation", libero(3), 8))
                action = wire.unpacked(await client.recv())
                assert action.seq == 8 and action.payload["actions"][1] == pytest.approx(0.6)
                with pytest.raises(ConnectionClosedError) as closed:
                    await greedy.send(b"\0" * (2**16 + 1))
                    await greedy.recv()
                assert closed.value.rcvd.code == 1009
                await client.send(frame("observation", libero(4), 9))
                assert wire.unpacked(await client.recv()).seq == 9

    asyncio.run(talk())


@needs_websockets
def test_it_ends_with_sigterm():
    async def serving():
        def end(port):
            os.kill(os.getpid(), signal.SIGTERM)

        await asyncio.wait_for(serve(acting(), "127.0.0.1", 0, ready=end), timeout=10)

    asyncio.run(serving())


@needs_websockets
@needs_vla_eval
def test_the_packages_own_client_runs_an_episode():
    from vla_eval.connection import Connection

    async def talk():
        service = acting(execute=2, cameras=("primary", "wrist"), keys=("rgb", "state", "instruction"))
        async with served(service) as port, Connection(f"ws://127.0.0.1:{port}") as client:
            assert client.server_info["observation_params"]["quat_no_antipodal"] is True
            await client.start_episode({"task": {"name": "pick"}})
            found = []
            for pixel in range(4):
                action = await client.act(libero(pixel, states=np.ones(8)))
                found.append(action["actions"])
            await client.end_episode({"metrics": {"success": True}})
            with pytest.raises(RuntimeError, match="'states' is missing"):
                await client.act(libero())
            return np.stack(found)

    found = asyncio.run(talk())
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[:, 0], [0, 0.2, 0, 0.2], atol=1e-6)
    np.testing.assert_allclose(found[:, 1], [0, 0, 0.4, 0.4], atol=1e-6)


@needs_vla_eval
@pytest.mark.parametrize("name", BENCHMARKS)
def test_the_benchmarks_know_the_settings_that_they_are_asked_for(name):
    from vla_eval.benchmarks.calvin.benchmark import CALVINBenchmark
    from vla_eval.benchmarks.libero.benchmark import LIBEROBenchmark
    from vla_eval.benchmarks.simpler.benchmark import SimplerEnvBenchmark

    classes = {"libero": LIBEROBenchmark, "calvin": CALVINBenchmark}
    benchmark = BENCHMARKS[name]
    everything = {**benchmark.settings, **benchmark.state_settings}
    if "wrist" in benchmark.cameras:
        everything |= benchmark.wrist_settings
    made = classes.get(name, SimplerEnvBenchmark)(**everything)
    sent = set(made.get_observation_spec())
    assert set(benchmark.cameras.values()) | {"language", "state"} == sent
    assert dataclasses.asdict(benchmark.action)["names"][:3] == ("x", "y", "z")
