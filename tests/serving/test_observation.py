"""Raw observations become the batches that training saw; what cannot be read is named."""

import numpy as np
import pytest
from rlds_writer import episode_steps, write_rlds

from data_pipelines.frame import Preprocessing
from data_pipelines.language.instructions import Instructions, tokenizer_for
from data_pipelines.stream import open_stream
from data_pipelines.trajectory import history_steps
from farsighted_jax.core.batch import FIELDS
from farsighted_jax.core.normalization import ArrayStatistics
from farsighted_jax.serving.history import FrameHistory
from farsighted_jax.serving.observation import ObservationError, ObservationReader

SHAPES = {"width": 7, "state_width": 5, "size": (12, 16), "depth": "png", "wrist": True}


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    """Two datasets: "both" has all there is, "wide" one camera, no depth and a wider state."""
    folder = tmp_path_factory.mktemp("rlds")
    write_rlds(folder, "both", lengths={"train": (7,)}, shards=1, **SHAPES)
    write_rlds(folder, "wide", lengths={"train": (7,)}, shards=1, state_width=9)
    data = {
        "dir": str(folder), "mixture": "wide:0.5,both:0.5", "split": "train", "resolution": 8,
        "offsets_s": (0.2,), "cameras": ("primary", "wrist"), "history_s": (0.6, 0.2),
        "text_tokenizer": "bytes", "text_length": 9,
    }  # fmt: skip
    return open_stream(data, batch_size=2, seed=0, train=False)


def reader_of(stream, name):
    statistics = stream.statistics[name]
    return ObservationReader(
        spec=stream.specs[name],
        index=stream.names.index(name),
        preprocessing=Preprocessing(8),
        cameras=("primary", "wrist"),
        num_frames=3,
        with_depth=True,
        depth=statistics["depth"],
        state=ArrayStatistics.from_dict(statistics["state"]),
        state_width=9,
        normalization="q01_q99",
        instructions=Instructions(tokenizer_for("bytes"), 9),
    )


@pytest.fixture(scope="module")
def reader(stream):
    return reader_of(stream, "both")


def raw(step, **changes):
    stored = step["observation"]
    return {
        "rgb": {"primary": stored["image"], "wrist": stored["wrist"]},
        "depth": {"primary": stored["depth"][..., 0]},
        "state": stored["state"],
        "instruction": step["language_instruction"],
    } | changes


def observations():
    """Every step of the written episode, with its history."""
    history = FrameHistory(history_steps(5.0, (0.6, 0.2)))
    return [history.add(raw(step)) for step in episode_steps(0, 7, **SHAPES)]


def test_the_batch_is_that_of_training(stream, reader):
    windows = [batch for batch in stream.epoch(readers=1, prefetch=1)]
    trained = {name: np.concatenate([batch[name] for batch in windows]) for name in windows[0]}
    found = reader.batch(observations())
    assert set(found) <= set(FIELDS)
    rows = np.flatnonzero(trained["dataset"] == reader.index)
    assert len(rows) == 6
    for row in rows:
        for name, array in found.items():
            want = trained[name][row]
            np.testing.assert_array_equal(array[trained["step"][row]], want, err_msg=name)
    assert found["history_valid"][:, :, 0].sum() == 6 + 4 + 7
    assert found["history_depth_valid"][3].any() and found["text_valid"].any()


def test_a_dataset_that_lacks_a_part_has_it_masked(stream):
    reader = reader_of(stream, "wide")
    assert reader.keys == ("rgb", "state", "instruction") and reader.roles == ("primary",)
    step = episode_steps(0, 7, state_width=9)[2]["observation"]
    batch = reader.batch([{"rgb": {"primary": step["image"]}, "state": step["state"], "instruction": ""}])
    assert not batch["history_valid"][0, :, 1].any() and batch["history_valid"][0, :, 0].tolist() == [0, 0, 1]
    assert not batch["history_depth_valid"].any() and not batch["text_valid"].any()


def test_depth_may_be_left_out(reader):
    observation = observations()[5]
    del observation["depth"]
    batch = reader.batch([observation])
    assert not batch["history_depth_valid"].any() and batch["history_valid"].all()


def test_a_history_forgets_at_the_begin_of_an_episode():
    history = FrameHistory((3, 1, 0))
    steps = [raw(step) for step in episode_steps(0, 7, **SHAPES)]
    counts = [len(history.add(step)["rgb"]["wrist"]) for step in steps[:5]]
    assert counts == [1, 2, 2, 3, 3]
    history.reset()
    added = history.add(steps[5])
    np.testing.assert_array_equal(added["rgb"]["wrist"], steps[5]["rgb"]["wrist"][None])
    assert added["instruction"] == steps[5]["instruction"]


STEP = raw(episode_steps(0, 7, **SHAPES)[0])
IMAGE = STEP["rgb"]["primary"]
NAN = np.where(np.arange(5) == 3, np.nan, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rgb": {"primary": IMAGE}}, "lacks camera 'wrist'"),
        ({"rgb": {**STEP["rgb"], "left": IMAGE}}, "unknown camera 'left'"),
        ({"rgb": IMAGE}, "'rgb' is of type ndarray"),
        ({"rgb": {**STEP["rgb"], "wrist": IMAGE / 255}}, r"camera 'wrist': .*found float64\[12, 16, 3\]"),
        ({"rgb": {**STEP["rgb"], "wrist": IMAGE[..., :1]}}, r"camera 'wrist': .*found uint8\[12, 16, 1\]"),
        ({"rgb": {**STEP["rgb"], "wrist": np.stack([IMAGE] * 4)}}, "4 frames, expected 1 to 3"),
        ({"depth": {"wrist": IMAGE[..., 0]}}, "unknown camera 'wrist'"),
        ({"depth": {"primary": IMAGE}}, "12 frames, expected 1 to 3"),
        ({"depth": {"primary": np.zeros((2, 12, 16), np.uint16)}}, "more frames than its 'rgb'"),
        ({"state": NAN}, r"dimension 3 \(s3\) is nan"),
        ({"state": np.zeros(4)}, r"float64\[4\], expected float\[5\]: s0, s1"),
        ({"state": ["a"] * 5}, r"<U1\[5\], expected float\[5\]"),
        ({"instruction": b"pick"}, "'instruction' is of type bytes"),
        ({"instuction": "pick"}, "unknown key 'instuction'; did you mean 'instruction'"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_named(reader, changes, message):
    with pytest.raises(ObservationError, match=message):
        reader.batch([STEP | changes])
    with pytest.raises(ObservationError, match=f"observation 1: .*{message}"):
        reader.batch([STEP, STEP | changes])


def test_a_missing_key_is_named(reader):
    with pytest.raises(ObservationError, match=r"lacks \['state'\]"):
        reader.batch([{key: value for key, value in STEP.items() if key != "state"}])
    with pytest.raises(ObservationError, match="found list"):
        reader.batch([[1]])
