"""An untrained tiny model, written datasets and videos, for the tools that use them."""

import cv2
import jax
import numpy as np
import pytest
from rlds_writer import write_rlds
from tool_cases import LENGTHS, SIZE, VARIANT, random_params, tool_config

from data_pipelines.frame import Preprocessing
from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream
from farsighted_jax.cli import clips
from farsighted_jax.cli.run import Run, task_for, zero_batch
from farsighted_jax.lam.inference import LatentActions
from farsighted_jax.lam.model import VARIANTS


def far_apart(vectors, num):
    """Rows that lie far from each other, so that no code is a tie."""
    chosen = [0]
    while len(chosen) < num:
        distance = np.square(vectors[:, None] - vectors[chosen]).sum(axis=-1).min(axis=1)
        chosen.append(int(distance.argmax()))
    return vectors[chosen]


@pytest.fixture(scope="session")
def tool_data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tool-data")
    write_rlds(folder, lengths=LENGTHS, size=(SIZE, SIZE), depth="tensor")
    return folder


@pytest.fixture(scope="session")
def tool_model(tool_data):
    """An untrained model whose codebook lies among the vectors of the data, so that codes differ."""
    config = tool_config(tool_data)
    patch = pytest.MonkeyPatch()
    patch.setitem(VARIANTS, "tiny", VARIANT)
    task = task_for(config)
    patch.undo()
    shapes, state = jax.eval_shape(task.init, jax.random.key(0), zero_batch(config))
    params = random_params(shapes)
    state = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), state)
    stream = open_stream(config.data, batch_size=4, seed=0)
    batches = [stream.batch(step) for step in range(3)]
    encoded = [LatentActions(task, params, state).encode(batch)["encoded"] for batch in batches]
    state["codebook"] = far_apart(np.concatenate(encoded).reshape(-1, 5), 7)
    actions = LatentActions(task, params, state)
    # Digests are tested where checkpoints are written; compiling one takes longer than the tests here.
    actions.digest = "0123" * 16
    run = Run(config, task, stream.statistics, 0, params, state)
    return clips.Model(run, actions, config.data.offsets_s, Preprocessing(16))


@pytest.fixture
def loaded_once(monkeypatch, tool_model):
    """Commands get the model of the session, so that its functions are compiled once."""
    monkeypatch.setattr(clips, "load_model", lambda *args, **kwargs: tool_model)
    return tool_model


@pytest.fixture(scope="session")
def tool_videos(tmp_path_factory, tool_data):
    """The two validation episodes as folders of pictures, `ep0` and `ep1`."""
    folder = tmp_path_factory.mktemp("tool-videos")
    for episode in open_split(tool_data, "tiny", "val").episodes():
        place = folder / f"ep{episode.index}"
        place.mkdir()
        for step in range(episode.num_steps):
            (place / f"{step}.png").write_bytes(episode.rgb_bytes(step))
    return folder


@pytest.fixture(scope="session")
def read_film():
    def read(path):
        capture, frames = cv2.VideoCapture(str(path)), []
        while True:
            found, frame = capture.read()
            if not found:
                return np.stack(frames)[..., ::-1], capture.get(cv2.CAP_PROP_FPS)
            frames.append(frame)

    return read
