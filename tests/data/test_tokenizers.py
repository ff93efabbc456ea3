"""Bytes and T5's pieces, and what is cut, empty or no text at all."""

import hashlib
import json
import sys

import numpy as np
import pytest
from tiny_tokenizer import END, PIECES, UNKNOWN, write_tokenizer

from data_pipelines.errors import TokenizerError
from data_pipelines.language.byte_tokenizer import ByteTokenizer
from data_pipelines.language.instructions import Instructions, tokenizer_for
from data_pipelines.language.piece_tokenizer import PieceTokenizer

ALL_BYTES = bytes(range(256))


def written(instructions, text):
    text_L = np.zeros(instructions.length, np.int32)
    valid_L = np.zeros(instructions.length, bool)
    instructions.write(text, text_L, valid_L)
    assert not text_L[~valid_L].any()
    return text_L[valid_L].tolist()


def named(tokens):
    return [PIECES[token] for token in tokens]


@pytest.fixture
def piece_file(tmp_path):
    return write_tokenizer(tmp_path / "tokenizer.json")


def test_every_byte_has_its_token_and_comes_back():
    tokenizer = ByteTokenizer()
    tokens = tokenizer.tokens(ALL_BYTES)
    assert tokens.tolist() == list(range(3, 259)) and tokens.dtype == np.int32
    assert tokenizer.vocabulary == tokens.max() + 1
    assert tokenizer.text(tokens) == ALL_BYTES
    assert tokenizer.text(np.array([0, 1, 2, 259, ord("a") + 3])) == b"a"


def test_a_text_that_spells_a_special_token_stays_text():
    assert ByteTokenizer().tokens(b"</s>").tolist() == [byte + 3 for byte in b"</s>"]


@pytest.mark.parametrize("length", [2, 5, 6, 7, 40])
def test_a_long_text_keeps_its_beginning_and_its_end_token(length):
    instructions = Instructions(ByteTokenizer(), length)
    tokens = written(instructions, b"block")
    assert tokens == [byte + 3 for byte in b"block"[: length - 1]] + [1]
    assert instructions.counts["texts_cut"] == (length < 6)


def test_a_very_long_text_is_cut_and_counted():
    instructions = Instructions(ByteTokenizer(), 8)
    for _ in range(2):
        assert written(instructions, b"x" * 1_000_000) == [ord("x") + 3] * 7 + [1]
    assert instructions.counts == {"texts_cut": 2, "texts_not_utf8": 0, "texts_empty": 0}


@pytest.mark.parametrize("text", [b"", b" ", b"\n\t  "])
def test_an_empty_text_has_no_token(text):
    instructions = Instructions(ByteTokenizer(), 8)
    assert written(instructions, text) == []
    assert instructions.counts == {"texts_cut": 0, "texts_not_utf8": 0, "texts_empty": 1}


def test_what_is_no_utf8_is_kept_as_bytes_and_counted():
    instructions = Instructions(ByteTokenizer(), 300)
    assert written(instructions, ALL_BYTES) == [*range(3, 259), 1]
    assert written(instructions, "façade".encode()) == [byte + 3 for byte in "façade".encode()] + [1]
    assert instructions.counts["texts_not_utf8"] == 1


def test_the_same_text_again_is_counted_again():
    instructions = Instructions(ByteTokenizer(), 3)
    assert [written(instructions, b"abc") for _ in range(3)] == [[100, 101, 1]] * 3
    assert instructions.counts["texts_cut"] == 3


def test_words_become_the_pieces_of_the_file(piece_file):
    tokenizer = PieceTokenizer(piece_file)
    tokens = tokenizer.tokens(b"move  the orange blocks")
    assert named(tokens) == ["▁move", "▁the", "▁or", "ange", "▁block", "s"] and tokens.dtype == np.int32
    assert (tokenizer.end, tokenizer.vocabulary) == (END, len(PIECES))
    assert tokenizer.digest == hashlib.sha256(piece_file.read_bytes()).hexdigest()
    instructions = Instructions(tokenizer, 4)
    assert named(written(instructions, b"move the orange block")) == ["▁move", "▁the", "▁or", "</s>"]
    assert instructions.counts["texts_cut"] == 1


def test_lengths_in_the_file_are_not_ours(tmp_path):
    path = write_tokenizer(tmp_path / "tokenizer.json", truncation=2)
    assert named(PieceTokenizer(path).tokens(b"move the block")) == ["▁move", "▁the", "▁block"]
    assert named(PieceTokenizer(path).tokens(b"move")) == ["▁move"]


def test_what_is_no_utf8_is_an_unknown_piece(piece_file):
    instructions = Instructions(PieceTokenizer(piece_file), 9)
    tokens = written(instructions, b"move \xff\xfe block")
    assert (named(tokens[:1]), tokens[-1]) == (["▁move"], END)
    assert UNKNOWN in tokens and "▁block" in named(tokens)
    assert instructions.counts["texts_not_utf8"] == 1


def test_a_name_finds_bytes_a_file_a_folder_or_a_converted_model(piece_file, monkeypatch, tmp_path):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "cache"))
    assert isinstance(tokenizer_for("bytes"), ByteTokenizer)
    digest = tokenizer_for(str(piece_file)).digest
    assert tokenizer_for(str(tmp_path)).digest == digest
    with pytest.raises(TokenizerError, match="farsighted convert --model t5-small"):
        tokenizer_for("t5-small")
    converted = tmp_path / "cache" / "pretrained" / "t5-small"
    converted.mkdir(parents=True)
    with pytest.raises(TokenizerError, match="no tokenizer there.*expected tokenizer.json"):
        tokenizer_for("t5-small")
    write_tokenizer(converted / "tokenizer.json")
    assert tokenizer_for("t5-small").digest == digest


def test_a_file_other_than_the_manifest_says_is_refused(piece_file):
    manifest = piece_file.with_name("manifest.json")
    listed = {"body": {"files": {"tokenizer.json": {"sha256": PieceTokenizer(piece_file).digest}}}}
    manifest.write_text(json.dumps(listed))
    PieceTokenizer(piece_file)
    piece_file.write_text(piece_file.read_text().replace("ange", "inge"))
    with pytest.raises(TokenizerError, match="tokenizer.json: SHA-256 .* as in manifest.json"):
        PieceTokenizer(piece_file)
    manifest.write_text(json.dumps({"body": {"files": {}}}))
    with pytest.raises(TokenizerError, match="does not list it"):
        PieceTokenizer(piece_file)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\x00", b'{"model": {"type": "Unigram"}}'])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content, piece_file):
    path = tmp_path / "other.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError, match="other.json: not a tokenizer"):
        PieceTokenizer(path)


def test_a_tokenizer_without_an_end_is_refused(tmp_path):
    path = write_tokenizer(tmp_path / "tokenizer.json", pieces=["<pad>", "<unk>", "▁"])
    with pytest.raises(TokenizerError, match="no token '</s>'"):
        PieceTokenizer(path)


def test_without_the_library_the_extra_is_named(piece_file, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ImportError, match=r"pip install farsighted-jax\[text\]"):
        PieceTokenizer(piece_file)
    assert tokenizer_for("bytes").vocabulary == 259
