"""Instructions in batches: off by default, a pure function of seed and step, none where there is none."""

import numpy as np
import pytest
from rlds_writer import write_rlds
from tiny_tokenizer import write_tokenizer

from data_pipelines.language.byte_tokenizer import ByteTokenizer
from data_pipelines.stream import open_stream
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError

LENGTH = 9


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds")
    write_rlds(folder, "told")
    write_rlds(folder, "silent", drop=("language_instruction",), edit=without_language)
    spec = folder / "silent" / "1.0.0" / "dataset_spec.json"
    spec.write_text(spec.read_text().replace('"language_instruction"', '""'))
    write_rlds(folder, "long", instruction="put the orange block on the table")
    return folder


def without_language(split, episode, steps):
    for step in steps:
        step.pop("language_instruction", None)


def opened(root, mixture="told", *, train=True, seed=3, processes=(0, 1), **changes):
    data = {"dir": str(root), "mixture": mixture, "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4)}
    return open_stream(
        data | {"text_tokenizer": "bytes", "text_length": LENGTH} | changes,
        batch_size=8,
        seed=seed,
        train=train,
        process_index=processes[0],
        process_count=processes[1],
    )


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_a_row_has_the_instruction_of_its_episode(root):
    stream = opened(root)
    batch = stream.batch(0)
    sizes = check(batch, values=True)
    assert sizes["L"] == LENGTH and stream.tokenizer.name == "bytes"
    texts = [ByteTokenizer().text(row[valid]) for row, valid in
             zip(batch["text"], batch["text_valid"], strict=True)]  # fmt: skip
    assert texts == [b"task %d" % episode for episode in batch["episode"]]
    assert len(set(texts)) > 1
    assert (batch["text_valid"] == (np.arange(LENGTH) < 7)).all()
    assert (batch["text"][:, 6] == 1).all() and not batch["text"][:, 7:].any()


def test_by_default_there_is_none_and_the_rest_is_the_same_to_the_bit(root):
    for train in (True, False):
        options = {"train": train, "augment": True, "shift": 0.2, "jitter": 0.2}
        without, with_text = opened(root, text_tokenizer="", **options), opened(root, **options)
        plain, batch = without.batch(4), with_text.batch(4)
        assert batch.keys() - plain.keys() == {"text", "text_valid"}
        assert_same(plain, {name: batch[name] for name in plain})
        assert without.fingerprint == with_text.fingerprint and without.tokenizer is None
        assert "texts_cut" not in without.counts


def test_a_dataset_without_language_has_rows_without_a_token(root):
    stream = opened(root, "told:0.5,silent:0.5")
    batch = stream.batch(0)
    check(batch)
    silent = batch["dataset"] == stream.names.index("silent")
    assert silent.any() and not silent.all()
    np.testing.assert_array_equal(batch["text_valid"].any(axis=1), ~silent)
    assert not batch["text"][silent].any()
    assert stream.counts["texts_empty"] == silent.sum()


def test_texts_are_the_same_for_readers_hosts_and_resumed_runs(root):
    expected = [opened(root, "told:0.5,silent:0.5").batch(step) for step in range(4)]
    batches = opened(root, "told:0.5,silent:0.5").batches(2, readers=3, prefetch=2)
    for step in (2, 3):
        assert_same(next(batches)[1], expected[step])
    batches.close()
    hosts = [opened(root, "told:0.5,silent:0.5", processes=(p, 2)).batch(3) for p in range(2)]
    assert_same({name: np.concatenate([host[name] for host in hosts]) for name in hosts[0]}, expected[3])


def test_what_is_cut_is_counted(root):
    stream = opened(root, "long")
    assert stream.counts["texts_cut"] == 0
    batch = stream.batch(0)
    assert batch["text_valid"].all() and (batch["text"][:, -1] == 1).all()
    assert ByteTokenizer().text(batch["text"][0]) == b"put the "
    assert stream.counts["texts_cut"] == 8


def test_rows_that_fill_up_an_epoch_have_no_text(root):
    last = list(opened(root, train=False).epoch(readers=1, prefetch=1))[-1]
    padding = last["episode"] < 0
    assert padding.any() and not last["text_valid"][padding].any() and last["text_valid"][~padding].any()


def test_pieces_come_from_a_file(root, tmp_path):
    path = write_tokenizer(tmp_path / "tokenizer.json")
    batch = opened(root, "long", text_tokenizer=str(path)).batch(0)
    check(batch)
    assert batch["text_valid"].all() and (batch["text"] == batch["text"][0]).all()


def test_a_length_without_room_for_a_token_is_refused(root):
    with pytest.raises(ConfigError, match="data.text_length.*1 is not within"):
        opened(root, text_length=1)
