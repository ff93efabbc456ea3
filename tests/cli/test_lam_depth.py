"""A LAM that reads depth, inside a policy's run: whatever that run normalises depth with, it sees its own."""

import jax
import numpy as np
import pytest
from rlds_writer import write_rlds
from tool_cases import SIZE, VARIANT, tool_config, write_lam_run

from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream
from farsighted_jax.cli.clips import load_model
from farsighted_jax.cli.policy_run import policy_run
from farsighted_jax.cli.run import read_run
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.batch import float_rgb
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.frozen import depth_constants
from farsighted_jax.lam.inference import LatentActions
from farsighted_jax.lam.model import VARIANTS

# The LAM was trained on the first two, without depth of the second.
NAMES = ("trained", "blind", "new")
STATISTICS = {"trained": {"depth": [1.1, 0.3]}, "blind": {"depth": None}}
B = 12


def with_depth(statistics, constants):
    """Statistics of a stream with others of depth, dataset -> (center, scale) or None."""
    return {name: {**entry, "depth": constants[name]} for name, entry in statistics.items()}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("depth-data")
    for number, name in enumerate(NAMES):
        lengths = {"train": (5 + number, 6)}
        write_rlds(folder, name, lengths=lengths, shards=1, size=(SIZE, SIZE), depth="tensor")
    return folder


@pytest.fixture(scope="module")
def lam_folder(data):
    config = tool_config(data)
    config.data.mixture = "trained,blind"
    return write_lam_run(data / "lam", config, STATISTICS)


@pytest.fixture(scope="module", autouse=True)
def small():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(VARIANTS, "tiny", VARIANT)
        yield


@pytest.fixture(scope="module")
def lam(lam_folder):
    return read_run(lam_folder)


@pytest.fixture(scope="module")
def run(data, lam_folder):
    config = config_lib.load("configs/policy_pretrain.py:tiny")
    config.lam, config.data.dir, config.data.mixture = str(lam_folder), str(data), ",".join(NAMES)
    config.data.resolution, config.data.offsets_s = 16, (0.2, 0.6)
    config.model.depth_input = "fuse"
    return config, policy_run(config)


@pytest.fixture(scope="module")
def batches(run):
    """The policy's batch, and the same clips as the LAM's run normalises their depth."""
    data = run[0].data
    stream = open_stream(data, batch_size=B, seed=0)
    constants = {"trained": (1.1, 0.3), "blind": None, "new": (1.1, 0.3)}
    own = open_stream(data, batch_size=B, seed=0, statistics=with_depth(stream.statistics, constants))
    assert set(stream.batch(0)["dataset"]) == {0, 1, 2} and stream.names == NAMES
    found, expected = stream.batch(0), own.batch(0)
    blind = expected["dataset"] == 1
    for name in ("depth", "depth_valid", "history_depth", "history_depth_valid"):
        expected[name][blind] = 0
    return found, expected


def params_of(run):
    return {PRETRAINED: run.lam.weights}


def test_codes_are_those_of_the_lams_own_run(run, lam, batches):
    found, expected = batches
    actions = LatentActions(lam.task, lam.params, lam.model_state)
    code = np.asarray(actions.encode(expected)["code"])
    made = jax.jit(run[1].lam.model.codes)(params_of(run[1]), found)
    valid = found["frame_valid"][:, 1:]
    np.testing.assert_array_equal(np.asarray(made)[valid], code[valid])
    unchanged = np.asarray(actions.encode(found)["code"])
    for dataset in range(3):
        rows = valid & (found["dataset"] == dataset)[:, None]
        assert (unchanged[rows] != code[rows]).any(), "the constants make no difference, the test none either"


def test_tokens_are_those_of_the_lams_own_run(run, lam, batches):
    found, expected = batches
    made = jax.jit(run[1].task.inputs.observation)(params_of(run[1]), found).tokens_BRPNE[:, 0, 0]
    frame = (
        expected["history_rgb"][:, 0],
        expected["history_depth"][:, 0],
        expected["history_depth_valid"][:, 0],
    )
    names = ("rgb_BTHWC", "depth_BTHW1", "depth_valid_BTHW1")
    inputs = dict(zip(names, (float_rgb(frame[0]), *frame[1:]), strict=True))
    tokens = jax.jit(
        lambda params, inputs: lam.task.model.apply({"params": params}, **inputs, method="tokens")
    )
    np.testing.assert_allclose(made, tokens(lam.params, inputs)[:, 0], atol=2e-5)


def test_the_same_constants_change_no_bit(run, batches):
    expected = batches[1]
    model = run[1].lam.model
    rows = expected["dataset"] != 1
    own = dict(zip(("depth_center", "depth_scale"), np.array([[1.1, 0.3]] * B, np.float32).T, strict=True))
    given = [expected[name] for name in ("depth", "depth_valid")] + list(own.values())
    depth, *_ = jax.jit(model._own_depth, static_argnums=0)(
        expected["rgb"].shape, expected["dataset"], *given
    )
    np.testing.assert_array_equal(np.asarray(depth)[rows], expected["depth"][rows])


def test_tools_see_depth_in_the_same_units(lam_folder, data):
    model = load_model(lam_folder)
    constants = {name: model.depth_constants(open_split(data, name, "train")) for name in NAMES}
    assert constants == {"trained": (1.1, 0.3), "blind": None, "new": (1.1, 0.3)}
    assert depth_constants({"blind": {"depth": None}}, "new") is None and depth_constants({}, "") is None


def test_an_unknown_dataset_without_depth_has_none(lam_folder, data):
    write_rlds(data, "plain", lengths={"train": (5,)}, shards=1, size=(SIZE, SIZE))
    assert load_model(lam_folder).depth_constants(open_split(data, "plain", "train")) is None
