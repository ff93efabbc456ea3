"""Stored labels in batches: aligned with episode and step, and refused where they are of something else."""

import json

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.code_dataset import CodeWriter, EpisodeCodes, LabelError
from data_pipelines.rlds import open_split
from data_pipelines.stored_codes import CodeFormat
from data_pipelines.stream import open_stream
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError

STEPS, Z = (1, 3), 4
LENGTHS = {"one": (6, 5, 2, 7), "two": (4, 5)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds")
    for name, lengths in LENGTHS.items():
        write_rlds(folder, name, lengths={"train": lengths, "val": (3, 3)})
    return folder


@pytest.fixture(scope="module")
def codes(root, tmp_path_factory):
    """Labels of both training splits."""
    folder = tmp_path_factory.mktemp("codes")
    for name in LENGTHS:
        write_codes(folder, root, name)
    return folder


def stored_code(dataset, episode, step, k):
    """A code that tells where it belongs."""
    return (len(dataset) * 7 + episode * 1000 + step * 50 + k * 10 + np.arange(Z)).astype(np.int32)


def episode_codes(dataset, episode, length):
    valid_Lt = np.arange(length)[:, None] + STEPS < length
    code_LtZ = np.array([[stored_code(dataset, episode, step, k) for k in (0, 1)] for step in range(length)])
    return EpisodeCodes(episode, np.where(valid_Lt[..., None], code_LtZ, -1).astype(np.int32), valid_Lt)


def write_codes(folder, root, name, *, lengths=None, digest="d" * 64, steps=STEPS, camera="primary"):
    """Side dataset of a training split; `lengths` are its episodes' in place of the true ones."""
    lengths = LENGTHS[name] if lengths is None else lengths
    source = {"dataset": name, "split": "train", "num_episodes": len(lengths), "camera": camera,
              "fingerprint": open_split(root, name, "train").fingerprint}  # fmt: skip
    labels = {"source": source, "num_shards": 1, "keyframe_steps": list(steps), "num_slots": Z,
              "codebook_size": 9999, "model": {"digest": digest}}  # fmt: skip
    writer = CodeWriter(folder, labels)
    writer.write(0, [episode_codes(name, number, length) for number, length in enumerate(lengths)])
    assert writer.finish()
    return writer.folder


def opened(root, codes, mixture="one,two", **changes):
    data = {"dir": str(root), "mixture": mixture, "split": "train", "resolution": 8, "offsets_s": (0.2, 0.6)}
    return open_stream(data | {"codes": str(codes)} | changes, batch_size=8, seed=3)


def assert_aligned(batch, names, first_episode=0):
    for row in np.flatnonzero(batch["dataset"] >= 0):
        name, episode = names[batch["dataset"][row]], int(batch["episode"][row]) + first_episode
        for k in (0, 1):
            there = batch["step"][row] + STEPS[k] < LENGTHS[name][episode]
            assert batch["code_valid"][row, k] == there
            expected = stored_code(name, episode, int(batch["step"][row]), k) if there else np.zeros(Z)
            np.testing.assert_array_equal(batch["code"][row, k], expected)


def test_a_row_has_the_codes_of_its_window(root, codes):
    stream = opened(root, codes)
    assert stream.codes == CodeFormat(num_codes=9999, num_slots=Z, digest="d" * 64)
    for batch in stream.epoch(readers=1, prefetch=1):
        assert check(batch, values=True)["Z"] == Z
        assert_aligned(batch, stream.names)
        padding = batch["dataset"] < 0
        assert not batch["code"][padding].any() and not batch["code_valid"][padding].any()
    assert not batch["code_valid"].all() and padding.any()


def test_a_slice_takes_its_part_of_the_labels(root, codes):
    stream = opened(root, codes, "one", split="train[1:3]")
    batch = stream.batch(0)
    assert_aligned(batch, stream.names, first_episode=1)
    assert set(batch["episode"]) == {0, 1}


def test_without_a_folder_there_are_none_and_the_rest_is_the_same(root, codes):
    batch, plain = opened(root, codes).batch(2), opened(root, "").batch(2)
    assert batch.keys() - plain.keys() == {"code", "code_valid"} and opened(root, "").codes is None
    for name in plain:
        np.testing.assert_array_equal(batch[name], plain[name], err_msg=name)


def test_a_step_that_was_not_labelled_has_no_code(root, tmp_path):
    """An episode that could not be read when it was labelled has no steps."""
    write_codes(tmp_path, root, "two", lengths=(0, 5))
    for batch in opened(root, tmp_path, "two").epoch(readers=1, prefetch=1):
        unlabelled = batch["episode"] == 0
        assert not batch["code_valid"][unlabelled].any() and not batch["code"][unlabelled].any()
        assert batch["code_valid"][batch["episode"] == 1][:, 0].all()


def test_other_labels_are_other_data(root, codes, tmp_path):
    write_codes(tmp_path, root, "one", digest="e" * 64)
    same, other = opened(root, codes, "one"), opened(root, tmp_path, "one")
    assert same.fingerprint == opened(root, codes, "one").fingerprint != other.fingerprint


COMMAND = "run `farsighted label --mixture one --split train --out "


@pytest.mark.parametrize(
    ("wrong", "changes", "named"),
    [
        ({"steps": (1, 2)}, {}, r"keyframe_steps: \[1, 2\] -> \[1, 3\]"),
        ({"camera": "wrist"}, {}, "source.camera: 'wrist' -> 'primary'"),
        ({"lengths": (6, 5, 2)}, {}, "3 episodes, expected 4"),
        ({}, {"mixture": "two"}, "no codes of two:train.*two_codes.*farsighted label --mixture two"),
        ({}, {"split": "val"}, "no codes of one:val.*no split 'val'"),
    ],
)
def test_labels_of_something_else_are_refused(root, tmp_path, wrong, changes, named):
    write_codes(tmp_path, root, "one", **wrong)
    with pytest.raises(LabelError, match=named) as caught:
        opened(root, tmp_path, **{"mixture": "one"} | changes)
    assert changes or COMMAND in str(caught.value)


def test_labels_of_changed_data_are_refused(root, tmp_path):
    write_codes(tmp_path, root, "one")
    write_rlds(tmp_path, "one", lengths={"train": (6, 5, 3, 7)})
    with pytest.raises(LabelError, match="source.fingerprint.*->"):
        opened(tmp_path, tmp_path, "one")


def test_labels_that_do_not_say_what_they_are_are_refused(root, tmp_path):
    path = write_codes(tmp_path, root, "one") / "labels-train.json"
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "model"}))
    with pytest.raises(LabelError, match="'model'"):
        opened(root, tmp_path, "one")


def test_codes_of_two_models_do_not_mix(root, tmp_path):
    write_codes(tmp_path, root, "one")
    write_codes(tmp_path, root, "two", digest="e" * 64)
    with pytest.raises(LabelError, match="'one'.*dddd.*'two'.*eeee.*one checkpoint"):
        opened(root, tmp_path)


def test_drawn_gaps_have_no_labels(root, codes):
    with pytest.raises(ConfigError, match=r"data.codes.*data.offset_scales.*\(1.0, 2.0\)"):
        opened(root, codes, offset_scales=(1.0, 2.0))
