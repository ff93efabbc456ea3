"""A T5 tokenizer of a few pieces, as a file."""

import pytest

PIECES = ["<pad>", "</s>", "<unk>", "▁", "▁move", "▁the", "▁or", "ange", "▁block", "s", "o", "m", "e", "."]
END, UNKNOWN = PIECES.index("</s>"), PIECES.index("<unk>")


def tokenizers():
    """The library, or a skip that says how to get it."""
    return pytest.importorskip("tokenizers", reason="pip install -e '.[text]'")


def write_tokenizer(path, pieces=PIECES, truncation=None):
    """Writes a tokenizer.json with the parts of T5's: Unigram over words that begin with a mark."""
    library = tokenizers()
    vocabulary = [(piece, -float(i)) for i, piece in enumerate(pieces)]
    unknown = pieces.index("<unk>")
    tokenizer = library.Tokenizer(library.models.Unigram(vocabulary, unk_id=unknown, byte_fallback=False))
    split, mark = library.pre_tokenizers.WhitespaceSplit(), library.pre_tokenizers.Metaspace("▁", "always")
    tokenizer.pre_tokenizer = library.pre_tokenizers.Sequence([split, mark])
    tokenizer.add_special_tokens([piece for piece in pieces[:3] if piece.startswith("<")])
    if truncation:
        tokenizer.enable_truncation(truncation)
        tokenizer.enable_padding(length=truncation)
    tokenizer.save(str(path))
    return path
