"""Our tokens against those of transformers' T5 and ByT5 tokenizers."""

import numpy as np
import pytest
from reference import required
from tiny_tokenizer import PIECES, tokenizers

from data_pipelines.language.byte_tokenizer import ByteTokenizer
from data_pipelines.language.instructions import Instructions
from data_pipelines.language.piece_tokenizer import PieceTokenizer

pytestmark = pytest.mark.parity

TEXTS = (
    "move the orange block",
    "  move   the\tblock.\n",
    "Blöcke, 日本語 und 🙂",
    "some  of the  blocks. the orange ones move",
    "x",
)


def rows(tokenizer, length):
    """(int32[B, L], bool[B, L]) of `TEXTS`."""
    instructions = Instructions(tokenizer, length)
    text_BL = np.zeros((len(TEXTS), length), np.int32)
    valid_BL = np.zeros((len(TEXTS), length), bool)
    for i, text in enumerate(TEXTS):
        instructions.write(text.encode(), text_BL[i], valid_BL[i])
    return text_BL, valid_BL


def assert_equal_to(reference, tokenizer, length):
    want = reference(list(TEXTS), max_length=length, padding="max_length", truncation=True)
    text_BL, valid_BL = rows(tokenizer, length)
    np.testing.assert_array_equal(text_BL, want["input_ids"])
    np.testing.assert_array_equal(valid_BL, np.array(want["attention_mask"], bool))


@pytest.mark.parametrize("length", [4, 9, 30])
def test_pieces_are_those_of_t5_from_the_file_that_it_writes(length, tmp_path):
    tokenizers()
    _, transformers = required()
    scored = [(piece, -0.5 * i) for i, piece in enumerate(PIECES)]
    reference = transformers.T5Tokenizer(vocab=scored, extra_ids=2)
    reference.save_pretrained(tmp_path)
    ours = PieceTokenizer(tmp_path)
    assert_equal_to(reference, ours, length)
    assert (ours.end, ours.vocabulary) == (reference.eos_token_id, len(reference))
    for text in ("the </s> block", "<extra_id_0> block", "a\ufffdb"):
        want = reference(text, add_special_tokens=False)["input_ids"]
        assert ours.tokens(text.encode()).tolist() == want


@pytest.mark.parametrize("length", [4, 9, 60])
def test_bytes_are_those_of_byt5(length):
    _, transformers = required()
    reference = transformers.ByT5Tokenizer()
    assert_equal_to(reference, ByteTokenizer(), length)
    assert (reference.pad_token_id, reference.eos_token_id, reference.unk_token_id) == (0, 1, 2)
