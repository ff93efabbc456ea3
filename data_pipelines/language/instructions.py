"""Instructions as rows of a batch: tokens, padded or cut to one length, and what was lost is counted."""

from __future__ import annotations

import functools
import os
import threading

import numpy as np
from etils import epath

from data_pipelines.cache import pretrained_folder
from data_pipelines.errors import TokenizerError
from data_pipelines.language.byte_tokenizer import ByteTokenizer
from data_pipelines.language.piece_tokenizer import PieceTokenizer

Tokenizer = ByteTokenizer | PieceTokenizer

# Instructions kept as tokens, and the longest (bytes) of them: enough for what is in use at a time.
_KEPT = 4096
_LONGEST_KEPT = 1024


def tokenizer_for(name: str) -> Tokenizer:
    """The tokenizer that `data.text_tokenizer` names.

    Args:
      name: "bytes"; a `tokenizer.json` or a folder with one, local or a URI; or
        the name of a converted model, such as "t5-base".

    Raises:
      TokenizerError: no such tokenizer; says how to get it.
      ImportError: see `PieceTokenizer`.
    """
    if name == ByteTokenizer.name:
        return ByteTokenizer()
    if epath.Path(name).exists() or os.sep in name:
        return PieceTokenizer(name)
    folder = pretrained_folder(name)
    if not folder.is_dir():
        raise TokenizerError(
            f"text_tokenizer {name!r} is neither 'bytes' nor a file or folder, and {folder} is no converted "
            f"model: run `farsighted convert --model {name}`"
        )
    return PieceTokenizer(folder)


class Instructions:
    """Turns instructions into rows of `length` tokens; safe to use from threads.

    A text ends with the tokenizer's end token. One that is too long keeps its
    beginning and its end token. One that is empty, or white space alone, has no
    token at all, not even the end: to a model it is the same as a dataset
    without language.

    Attributes:
      tokenizer: see `tokenizer_for`.
      length: L.
    """

    def __init__(self, tokenizer: Tokenizer, length: int):
        """Takes a tokenizer and a number of tokens L, the end included."""
        self.tokenizer, self.length = tokenizer, length
        self._counts = {"texts_cut": 0, "texts_not_utf8": 0, "texts_empty": 0}
        self._lock = threading.Lock()
        self._cached = functools.lru_cache(maxsize=_KEPT)(self._encoded)

    @property
    def counts(self) -> dict[str, int]:
        """Rows so far whose text was cut, was no UTF-8, or was empty or absent."""
        with self._lock:
            return dict(self._counts)

    def write(self, instruction: bytes, text_L: np.ndarray, valid_L: np.ndarray) -> None:
        """Writes one instruction, in the bytes that the dataset stores, over a row of zeros.

        Args:
          instruction: of any content and length.
          text_L: int32[L], written in place.
          valid_L: bool[L], written in place; True where a token is real.
        """
        encoded = self._cached if len(instruction) <= _LONGEST_KEPT else self._encoded
        tokens, faults = encoded(instruction)
        text_L[: len(tokens)], valid_L[: len(tokens)] = tokens, True
        if faults:
            with self._lock:
                for name in faults:
                    self._counts[name] += 1

    def _encoded(self, instruction):
        """Tokens with their end, at most L, and the names of what to count."""
        if not instruction.strip():
            return np.zeros(0, np.int32), ("texts_empty",)
        tokens = self.tokenizer.tokens(instruction)
        cut = len(tokens) > self.length - 1
        tokens = np.append(tokens[: self.length - 1], np.int32(self.tokenizer.end))
        faults = (("texts_cut", cut), ("texts_not_utf8", not _is_utf8(instruction)))
        return tokens, tuple(name for name, found in faults if found)


def _is_utf8(text):
    try:
        text.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
