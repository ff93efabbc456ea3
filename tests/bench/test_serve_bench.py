"""The bench of the policy server: what it reports of a server in this process, and of one that it starts."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from running_server import running

from farsighted_jax.bench import serve
from farsighted_jax.cli import bench

pytest.importorskip("websockets", reason="pip install -e '.[serve]'")
pytest.importorskip("msgpack", reason="pip install -e '.[serve]'")

from served_policy import policy, request, server  # noqa: E402

RELEASE = str(Path(__file__).parents[1] / "golden" / "release_v1")


def test_latency_is_that_of_the_socket_and_many_clients_share_batches():
    async def talk():
        acting = policy()
        acting.seconds = 0.02
        async with running(server(acting, batch_size=4).serve) as port:
            return await asyncio.to_thread(serve.measured, port, request(), clients=8, steps=3), acting

    found, acting = asyncio.run(talk())
    alone, together = found["alone"], found["together"]
    assert 20 <= alone["policy_p50_ms"] <= alone["p50_ms"] <= alone["p95_ms"]
    # 24 requests by four at once are six batches, one after the other.
    assert 2.5 * alone["policy_p50_ms"] > together["policy_p50_ms"] and together["requests_per_s"] < 24 / 0.12
    assert sum(size for size, _ in acting.batches) >= 24 + 3 and max(size for size, _ in acting.batches) == 4
    assert 0 < together["health_p95_ms"] <= together["health_max_ms"]


def test_noise_is_an_observation_of_the_policy():
    asked = serve.observation(policy())
    assert {role: image.shape for role, image in asked["rgb"].items()} == {
        role: (224, 224, 3) for role in ("primary", "wrist")
    }
    assert np.std(asked["rgb"]["primary"]) > 50 and asked["state"].shape == (8,)


@pytest.mark.slow
def test_the_command_starts_a_server_and_ends_it(capsys):
    options = ["--policy", RELEASE, "--clients", "2", "--batch", "1", "--steps", "2", "--json"]
    assert bench.main(["serve", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["together"]["clients"] == 2 and found["cameras"] == 2 and found["host"]["cores"] >= 1


@pytest.mark.slow
def test_a_server_that_does_not_come_up_is_told(monkeypatch):
    monkeypatch.setattr(serve, "load", lambda place: policy())
    with pytest.raises(serve.ServeBenchError, match="nowhere` ended with status 1"):
        serve.run("nowhere", clients=1, batch=1, steps=1)


def test_a_release_is_needed(capsys):
    with pytest.raises(SystemExit):
        bench.main(["serve"])
    assert "bench serve needs --policy RELEASE" in capsys.readouterr().err
