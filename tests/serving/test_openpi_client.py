"""openpi's own client, unchanged, in its own environment: OPENPI_PYTHON is an interpreter with it."""

import asyncio
import json
import os
import subprocess

import pytest
from running_server import running

pytest.importorskip("websockets", reason="pip install -e '.[serve]'")
pytest.importorskip("msgpack", reason="pip install -e '.[serve]'")

from served_policy import policy, server  # noqa: E402

# As openpi's LIBERO example uses it: chunks from the client, actions one by one from its broker.
SCRIPT = """
import json, sys
import numpy as np
from openpi_client import action_chunk_broker, image_tools
from openpi_client.websocket_client_policy import WebsocketClientPolicy

client = WebsocketClientPolicy("127.0.0.1", int(sys.argv[1]), api_key="s3")
image = image_tools.convert_to_uint8(image_tools.resize_with_pad(np.full((48, 64, 3), 7, np.uint8), 32, 32))
image[0, 0] = 7
observation = {
    "observation/image": image,
    "observation/wrist_image": image,
    "observation/state": np.zeros(8),
    "prompt": "pick",
}
chunk = client.infer(observation)["actions"]
broker = action_chunk_broker.ActionChunkBroker(client, action_horizon=3)
steps = [broker.infer(observation) for _ in range(4)]
found = {
    "metadata": client.get_server_metadata(),
    "chunk": [list(chunk.shape), str(chunk.dtype), float(chunk[0, 1])],
    "steps": [float(step["actions"][0]) for step in steps],
    "timing": sorted(steps[-1]["server_timing"]),
}
try:
    client.infer({**observation, "observation/state": np.full(8, np.nan)})
except RuntimeError as error:
    found["error"] = str(error)
print(json.dumps(found))
"""


@pytest.mark.skipif("OPENPI_PYTHON" not in os.environ, reason="needs OPENPI_PYTHON, with openpi-client")
def test_openpis_client_works_unchanged():
    def ask(port):
        command = [os.environ["OPENPI_PYTHON"], "-c", SCRIPT, str(port)]
        environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
        return subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)

    async def talk():
        served = server(policy())

        async def serve(host, port, ready):
            await served.serve(host, port, ready=ready, token="s3")

        async with running(serve) as port:
            return await asyncio.to_thread(ask, port)

    done = asyncio.run(talk())
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["metadata"]["embodiment"] == "toy"
    assert found["chunk"][:2] == [[6, 7], "float32"] and found["chunk"][2] == pytest.approx(0.07)
    assert found["steps"] == pytest.approx([0, 0.01, 0.02, 0])
    assert found["timing"] == ["infer_ms", "prev_total_ms"]
    assert "\nRequestError: 'observation/state': number 0 is nan" in found["error"]
