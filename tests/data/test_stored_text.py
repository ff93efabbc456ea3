"""Stored vectors of instructions: each text has its own; folders of something else are refused."""

import hashlib
import json

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.language.byte_tokenizer import ByteTokenizer
from data_pipelines.language.instructions import Instructions
from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream
from data_pipelines.text_features import (
    ABOUT,
    TextFeatureError,
    TextFeatures,
    TextFeatureWriter,
    identity,
    text_key,
)
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")

L, E = 9, 3
IDENTITY = {
    "encoder": "t5-tiny", "digest": "d" * 64, "tokenizer": "bytes", "length": L, "dtype": "float32",
    "width": E,
}  # fmt: skip


def without_text(split, episode, steps):
    """The second episode is told nothing."""
    if episode == 1:
        for step in steps:
            step["language_instruction"] = ""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds")
    write_rlds(folder, "one", lengths={"train": (3, 3, 3), "val": (3,)}, edit=without_text)
    return folder


def tokens(text):
    text_L, valid_L = np.zeros(L, np.int32), np.zeros(L, bool)
    Instructions(ByteTokenizer(), L).write(text, text_L, valid_L)
    return text_L, valid_L


def vector(key, num):
    """Vectors that tell which text they belong to."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:4], "little")
    return np.random.default_rng(seed).normal(size=(num, E)).astype(np.float32)


def write_features(folder, root, texts=(b"", b"task 0", b"task 2"), *, split="train", **changes):
    writer = TextFeatureWriter(folder, IDENTITY | changes)
    rows = [tokens(text) for text in texts]
    writer.write({text_key(*row): vector(text_key(*row), row[1].sum()) for row in rows})
    writer.add_source(open_split(root, "one", split))
    return folder


@pytest.fixture(scope="module")
def features(root, tmp_path_factory):
    return write_features(tmp_path_factory.mktemp("features"), root)


def opened(root, features, **changes):
    data = {"dir": str(root), "mixture": "one", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4)}
    data |= {"text_tokenizer": "bytes", "text_length": L, "text_features": str(features)}
    return open_stream(data | changes, batch_size=4, seed=3)


def test_a_row_has_the_vectors_of_its_text_and_zeros_elsewhere(root, features):
    stream, episodes = opened(root, features), set()
    assert stream.text_features == IDENTITY
    for batch in stream.epoch(readers=1, prefetch=1):
        assert check(batch, values=True)["E"] == E
        for row in range(4):
            valid_L = batch["text_valid"][row]
            if batch["dataset"][row] >= 0:
                episodes.add(int(batch["episode"][row]))
                expected = vector(text_key(batch["text"][row], valid_L), valid_L.sum())
                np.testing.assert_array_equal(batch["text_vector"][row][valid_L], expected)
            assert not batch["text_vector"][row][~valid_L].any()
    assert episodes == {0, 1, 2} and (batch["dataset"] < 0).any()


def test_without_a_folder_there_are_none_and_the_rest_is_the_same(root, features):
    stream, plain = opened(root, features), opened(root, "")
    batch, bare = stream.batch(1), plain.batch(1)
    assert batch.keys() - bare.keys() == {"text_vector"} and plain.text_features is None
    for name in bare:
        np.testing.assert_array_equal(batch[name], bare[name], err_msg=name)
    assert stream.fingerprint != plain.fingerprint


def test_vectors_of_other_weights_are_other_data(root, features, tmp_path):
    other = write_features(tmp_path / "other", root, digest="e" * 64)
    more = write_features(tmp_path / "more", root)
    write_features(more, root, (b"move",))
    fingerprints = [opened(root, folder).fingerprint for folder in (features, other, more)]
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]


def test_equal_tokens_are_one_text():
    assert text_key(*tokens(b"task one")) == text_key(*tokens(b"task one more"))
    keys = {text_key(*tokens(text)) for text in (b"", b"task 0", b"task 1", b"0 task")}
    assert len(keys) == 4 and text_key(*tokens(b" ")) in keys


def test_what_was_being_written_when_it_was_killed_is_written_again(root, tmp_path):
    folder = write_features(tmp_path / "features", root, (b"", b"task 0"))
    for name in (".texts-00001.safetensors.partial", "texts-00001.safetensors"):
        (folder / name).write_bytes(b"half")
    writer = TextFeatureWriter(folder, IDENTITY)
    assert writer.keys == {text_key(*tokens(text)) for text in (b"", b"task 0")}
    write_features(folder, root, (b"task 2",))
    about = json.loads((folder / ABOUT).read_text())
    assert about["count"] == 3 and list(about["sources"].values()) == ["one:train"]
    assert sorted(path.name for path in folder.iterdir()) == [
        ABOUT, "texts-00000.safetensors", "texts-00001.safetensors"
    ]  # fmt: skip
    opened(root, folder).batch(0)


def test_a_text_that_is_not_there_is_named(root, tmp_path):
    folder = write_features(tmp_path / "features", root, (b"", b"task 2"))
    key = text_key(*tokens(b"task 0"))
    with pytest.raises(TextFeatureError, match=f"features: no vectors of .*b'task 0' .key {key}.*--out"):
        for _ in opened(root, folder).epoch(readers=1, prefetch=1):
            pass


@pytest.mark.parametrize(
    ("wrong", "changes", "named"),
    [
        ({"tokenizer": "a" * 64}, {}, "text_features.json.*tokenizer: 'aaaa.*' -> 'bytes'"),
        ({"length": 8}, {}, "length: 8 -> 9"),
        ({}, {"text_length": 8}, "length: 9 -> 8"),
        ({}, {"split": "val"}, r"not made from one:val.*but from \['one:train'\].*farsighted text-features"),
    ],
)
def test_vectors_of_something_else_are_refused(root, tmp_path, wrong, changes, named):
    with pytest.raises(TextFeatureError, match=named):
        opened(root, write_features(tmp_path, root, **wrong), **changes)


def test_a_slice_of_a_split_that_is_there_is_taken(root, features):
    assert set(opened(root, features, split="train[1:]").batch(0)["episode"]) <= {0, 1}


def test_texts_need_a_tokenizer(root, features):
    with pytest.raises(ConfigError, match="'data.text_features' is .* but 'data.text_tokenizer' is empty"):
        opened(root, features, text_tokenizer="")


def test_a_folder_is_gone_on_with_only_by_what_made_it(root, features):
    with pytest.raises(TextFeatureError, match="dtype: 'float32' -> 'bfloat16'.*another --out"):
        TextFeatureWriter(features, IDENTITY | {"dtype": "bfloat16"})


def test_damage_is_found(root, tmp_path):
    with pytest.raises(TextFeatureError, match="no text features there.*farsighted text-features"):
        TextFeatures(tmp_path)
    with pytest.raises(TextFeatureError, match="gs://b/f: .* local folders"):
        TextFeatures("gs://b/f")
    folder = write_features(tmp_path / "features", root)
    path = folder / "texts-00000.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    for open_folder in (TextFeatures, lambda place: TextFeatureWriter(place, IDENTITY)):
        with pytest.raises(TextFeatureError, match="texts-00000.safetensors: its SHA-256"):
            open_folder(folder)
    path.unlink()
    with pytest.raises(TextFeatureError, match="texts-00000.safetensors: cannot be read"):
        TextFeatures(folder)
    about = json.loads((folder / ABOUT).read_text())
    del about["digest"]
    (folder / ABOUT).write_text(json.dumps(about))
    with pytest.raises(TextFeatureError, match=r"lacks \['digest'\]"):
        identity(folder)
