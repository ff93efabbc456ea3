"""`farsighted serve`: a real release over a real socket, in this process."""

import os
import re
import signal
import threading
from pathlib import Path

import numpy as np
import pytest

from farsighted_jax.cli import serve
from farsighted_jax.cli.main import main
from farsighted_jax.serving import wire
from farsighted_jax.serving.policy import load

pytest.importorskip("websockets", reason="pip install -e '.[serve]'")

RELEASE = str(Path(__file__).parents[1] / "golden" / "release_v1")
IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
OBSERVATION = {
    "rgb": {"primary": IMAGE, "wrist": IMAGE[::-1]},
    "state": np.zeros(5),
    "instruction": "pick up the cup",
}


def test_a_release_is_served_until_sigterm(monkeypatch, capsys):
    from websockets.sync.client import connect

    found = {}

    def ask(port):
        try:
            with connect(f"ws://127.0.0.1:{port}", compression=None, additional_headers=header) as client:
                found["greeting"] = wire.unpacked(client.recv())[0]
                client.send(wire.packed(OBSERVATION))
                found["reply"] = wire.unpacked(client.recv())[0]
                client.send(wire.packed({**OBSERVATION, "state": np.zeros(4)}))
                found["error"] = client.recv()
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    told = serve._told

    def asking(flags):
        return lambda port: (told(flags)(port), threading.Thread(target=ask, args=[port]).start())

    monkeypatch.setattr(serve, "_told", asking)
    header = {"Authorization": "Api-Key s3"}
    assert main(["serve", "--policy", RELEASE, "--port", "0", "--batch", "1", "--token", "s3"]) == 0
    assert re.search(r"release_v1: ws://127\.0\.0\.1:\d+\n", capsys.readouterr().out)
    assert found["greeting"]["embodiment"] == "tiny" and found["greeting"]["history_steps"] == [2, 0]
    # Compiling took the first seed.
    expected = load(RELEASE)([OBSERVATION], seed=1)[0]
    np.testing.assert_allclose(found["reply"]["actions"], expected, atol=1e-6)
    assert found["error"].startswith("ObservationError: 'state' is float64[4], expected float[5]: s0, s1")


@pytest.mark.parametrize(
    ("flags", "status", "told"),
    [
        (["--host", "0.0.0.0"], 1, "give a token, or take 127.0.0.1"),
        (["--layout", "libero"], 1, "cannot be made"),
        (["--layout", "droid", "--camera", "left=x"], 1, "a key for camera 'left'"),
        (["--batch", "0"], 2, "--batch is 0, expected at least 1"),
        (["--state", "x"], 2, "--camera and --state change a layout, expected one of"),
    ],
)
def test_what_cannot_be_served_is_told_before_anything_is_compiled(flags, status, told, capsys, monkeypatch):
    monkeypatch.delenv("FARSIGHTED_TOKEN", raising=False)
    try:
        found = main(["serve", "--policy", RELEASE, *flags])
    except SystemExit as error:
        found = error.code
    assert found == status and told in capsys.readouterr().err
