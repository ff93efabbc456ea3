"""A model that reads depth, and a dataset and a video that have none: the tools use the estimator alone."""

import dataclasses

import jax
import numpy as np
import pytest
from rlds_writer import write_rlds
from tiny_networks import random_network, use_tiny_networks
from tool_cases import FPS, LENGTHS, SIZE, VARIANT, random_params, tool_config

from data_pipelines.code_dataset import CodeReader
from data_pipelines.frame import Preprocessing
from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream
from farsighted_jax.cli import clips, code_files, encode, label
from farsighted_jax.cli.run import Run, task_for, zero_batch
from farsighted_jax.core.batch import check
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.inference import LatentActions
from farsighted_jax.lam.model import VARIANTS

ESTIMATOR = "depth-anything-tiny"
# Of a batch: as many as there are devices, so that one compilation serves encoding and labelling.
ROWS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two datasets, of which one has depth."""
    folder = tmp_path_factory.mktemp("mixed-data")
    write_rlds(folder, "plain", lengths=LENGTHS, size=(SIZE, SIZE))
    write_rlds(folder, "measured", lengths=LENGTHS, size=(SIZE, SIZE), depth="tensor")
    return folder


@pytest.fixture(scope="module")
def model(data):
    """Untrained, of a run on the dataset without depth."""
    config = tool_config(data)
    config.data.mixture = "plain"
    config.model.depth_input, config.model.depth_estimator = "fuse", ESTIMATOR
    config.model.num_keypoints, config.eval.batch_size = 0, ROWS
    with pytest.MonkeyPatch.context() as patch:
        use_tiny_networks(patch)
        patch.setitem(VARIANTS, "tiny", VARIANT)
        task = task_for(config)
        shapes, state = jax.eval_shape(task.init, jax.random.key(0), zero_batch(config))
        params = random_params(shapes)
        params["depth_fusion"]["gate"] += 1
        params[PRETRAINED] = {ESTIMATOR: random_network(ESTIMATOR)}
        rng = np.random.default_rng(0)
        state = {
            name: rng.normal(scale=0.3, size=leaf.shape).astype(leaf.dtype) for name, leaf in state.items()
        }
        actions = LatentActions(task, params, state)
        actions.digest = "0123" * 16
        statistics = open_stream(config.data, batch_size=4, seed=0).statistics
        assert statistics["plain"]["depth"] is None
        run = Run(config, task, statistics, 0, params, state)
        yield clips.Model(run, actions, config.data.offsets_s, Preprocessing(16))


@pytest.fixture
def loaded(monkeypatch, model):
    monkeypatch.setattr(clips, "load_model", lambda *args, **kwargs: model)
    return model


def test_a_video_has_the_codes_of_a_training_batch(loaded, data, tmp_path):
    stream = open_stream({**loaded.run.config.data, "split": "val"}, batch_size=ROWS, seed=0, train=False)
    batch = next(stream.epoch())
    assert "depth" not in batch and batch["step"][:3].tolist() == [0, 1, 2]
    trained = loaded.actions.encode(batch)
    folder = tmp_path / "ep0"
    folder.mkdir()
    episode = next(open_split(data, "plain", "val").episodes())
    for step in range(episode.num_steps):
        (folder / f"{step}.png").write_bytes(episode.rgb_bytes(step))
    encode.run(tmp_path / "c.npz", "", str(folder), FPS, every_s=0.2)
    found = code_files.read_codes(tmp_path / "c.npz", loaded.describe()).code_BtZ
    np.testing.assert_array_equal(found, trained["code"][:3])
    with np.load(tmp_path / "c.npz", allow_pickle=False) as arrays:
        np.testing.assert_allclose(arrays["encoded"], trained["encoded"][:3], atol=1e-5)
        assert np.ptp(arrays["encoded"], axis=0).max() > 1e-3
    label.run(tmp_path / "labels", "", split="val", process=(0, 1), report=lambda line: None)
    codes = CodeReader(tmp_path / "labels", "plain", "val").episode(0)
    np.testing.assert_array_equal(codes.code_LtZ[:3], found)


def test_the_estimate_reaches_the_codes_of_a_video(model, data):
    _, batch = model.one_clip(f"rlds:{data}/plain:val:0")
    check(batch, values=True)
    before = model.actions.encode_rows(batch, ROWS)["encoded"]
    params = {**model.run.params, PRETRAINED: {ESTIMATOR: random_network(ESTIMATOR, seed=1)}}
    other = LatentActions(model.run.task, params, model.run.model_state)
    after = other.encode_rows(batch, ROWS)["encoded"]
    assert np.abs(before - after).max() > 1e-4


def test_a_mixture_has_clips_of_both_kinds(model, data):
    config = {**model.run.config.data, "mixture": "plain:0.5,measured:0.5", "windows_per_episode": 1}
    stream = open_stream(config, batch_size=4, seed=0)
    batch = stream.batch(0)
    plain_B = batch["dataset"] == stream.names.index("plain")
    assert 0 < plain_B.sum() < len(plain_B)
    task = model.run.task
    _, relative_BT = jax.jit(task.relative_depth)(model.run.params, batch)
    np.testing.assert_array_equal(relative_BT, plain_B[:, None] & batch["frame_valid"])


def test_only_an_estimate_in_metres_needs_constants(model):
    assert model.blank_depth("plain") == model.blank_depth("") == (0.0, 1.0)
    statistics = {**model.run.statistics, "measured": {"depth": [0.5, 0.2]}}
    both = dataclasses.replace(model, run=dataclasses.replace(model.run, statistics=statistics))
    assert both.blank_depth("plain") == (0.0, 1.0) and both.blank_depth("") == (0.5, 0.2)
