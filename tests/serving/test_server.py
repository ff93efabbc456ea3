"""The policy server over a network: openpi's protocol as its clients know it."""

import asyncio

import numpy as np
import pytest
from acting_policy import ActingPolicy
from running_server import page, running

from farsighted_jax.serving import wire
from farsighted_jax.serving.errors import ServingError
from farsighted_jax.serving.key_layouts import layout_for
from farsighted_jax.serving.server import PolicyServer
from farsighted_jax.serving.service import PolicyService, roboarena_metadata

pytest.importorskip("websockets", reason="pip install -e '.[serve]'")
pytest.importorskip("msgpack", reason="pip install -e '.[serve]'")

from served_policy import Client, closed_with, infer, pixel_of, policy, request, server  # noqa: E402


def test_the_server_speaks_first_and_answers_in_the_clients_dialect():
    async def talk():
        acting = policy()
        async with running(server(acting, batch_size=4).serve) as port:
            assert [size for size, _ in acting.batches] == [1, 2, 4], "compiled before the port is bound"
            async with Client(port) as client:
                assert client.greeting["keys"]["cameras"]["wrist"] == "observation/wrist_image"
                assert client.greeting["horizon"] == 6 and client.greeting["outputs"] == []
                for pixel, dialect in enumerate(wire.DIALECTS, start=1):
                    reply = await infer(client, request(pixel), dialect)
                    assert pixel_of(reply) == pixel
                    assert reply["actions"].shape == (6, 7) and reply["actions"].dtype == np.float32
                    assert set(reply) == {"actions", "policy_timing", "server_timing"}
                    assert reply["policy_timing"]["infer_ms"] <= reply["server_timing"]["infer_ms"]
                    assert ("prev_total_ms" in reply["server_timing"]) == (pixel > 1)

    asyncio.run(talk())


def test_further_outputs_come_only_to_those_who_ask():
    async def talk():
        async with running(server(outputs=("plan", "imagined"), batch_size=2).serve) as port:
            async with Client(port) as client, Client(port) as other:
                replies = await asyncio.gather(
                    infer(client, request(51, outputs=["plan", "imagined"])), infer(other, request(4))
                )
                assert (
                    replies[0]["plan"].tolist() == [51] * 3 and replies[0]["imagined"].tolist() == [0.2] * 3
                )
                assert set(replies[1]) == {"actions", "policy_timing", "server_timing"}
                told = await infer(client, request(outputs=["depth"]))
                assert told.startswith("RequestError: 'outputs': 'depth', expected a list of ['plan'")

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("options", "outputs", "told"),
    [
        ({"horizon": 0}, (), "has no actions to serve"),
        ({"groups": ("context", "vision")}, (), "has no actions to serve"),
        ({"groups": ("context", "action")}, ("plan",), "has no plan to serve"),
    ],
)
def test_what_a_policy_does_not_give_is_not_served(options, outputs, told):
    with pytest.raises(ServingError, match=told):
        PolicyService(ActingPolicy(**options), outputs=outputs)


def test_roboarena_resets_and_is_told_its_own_metadata():
    from farsighted_jax.rollout.openpi_clients import actions_for

    acting = policy()
    layout = layout_for("roboarena", acting, {}, ())
    served = PolicyServer(
        PolicyService(acting, layout=layout, act=actions_for("roboarena", acting.spec.action)),
        metadata=roboarena_metadata(acting),
    )

    async def talk():
        async with running(served.serve) as port, Client(port) as client:
            assert client.greeting == {
                "image_resolution": None,
                "needs_wrist_camera": True,
                "n_external_cameras": 1,
                "needs_stereo_camera": False,
                "needs_session_id": False,
                "action_space": "cartesian_velocity",
            }
            assert await infer(client, {"endpoint": "reset", "session_id": "x"}) == "reset successful"
            fields = {
                "observation/exterior_image_0_left": np.full((4, 5, 3), 7, np.uint8),
                "observation/wrist_image_left": np.zeros((4, 5, 3), np.uint8),
                "observation/joint_position": np.zeros(7),
                "observation/gripper_position": np.zeros(1),
                "prompt": "pick",
                "endpoint": "infer",
                "session_id": "x",
            }
            reply = await infer(client, fields)
            assert pixel_of(reply) == 7 and (reply["actions"][:, 6] == 0).all(), "openpi's 0 is open"
            assert "'endpoint' is 'plan', expected 'infer' or 'reset'" in await infer(
                client, {"endpoint": "plan"}
            )
            assert await closed_with(client) == 1011

    asyncio.run(talk())


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            {"observation/image": None},
            "RequestError: 'observation/image' is of type NoneType, expected an image",
        ),
        ({"observation/state": np.full(8, np.nan)}, "RequestError: 'observation/state': number 0 is nan"),
        ({"embodiment": "other"}, "RequestError: 'embodiment' is 'other', this policy acts for 'toy'"),
        ({"prompt": "unreadable"}, "ObservationError: 'instruction' is unreadable"),
        ({"outputs": 5}, "RequestError: 'outputs': of type int"),
    ],
)
def test_f8_a_bad_request_is_told_by_a_text_and_1011_and_others_do_not_notice(change, told):
    async def talk():
        served = server(batch_size=2)
        async with running(served.serve) as port, Client(port) as client, Client(port) as other:
            replies = await asyncio.gather(infer(client, request(**change)), infer(other, request(3)))
            assert replies[0].startswith(told) and "\n" not in replies[0]
            assert pixel_of(replies[1]) == 3
            assert await closed_with(client) == 1011
            assert f'farsighted_errors_total{{type="{told.partition(":")[0]}"}} 1' in served.metrics.text()

    asyncio.run(talk())


def test_f9_numbers_that_are_not_finite_are_never_sent_and_counted():
    async def talk():
        acting = policy()
        served = server(acting)
        async with running(served.serve) as port:
            for poison, told in (
                (np.nan, "NotFinite: the policy's actions are not finite; none is sent"),
                ("x", "InternalError: see the server's log"),
            ):
                acting.poison = poison
                async with Client(port) as client:
                    assert await infer(client, request()) == told
            text = await page(port, "/metrics")
            assert 'farsighted_errors_total{type="NotFinite"} 1' in text
            assert 'farsighted_errors_total{type="InternalError"} 1' in text
            assert "farsighted_requests_total 2" in text and "farsighted_connections 0" in text

    asyncio.run(talk())
