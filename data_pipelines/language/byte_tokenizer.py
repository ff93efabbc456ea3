"""Bytes as tokens, numbered as in ByT5 (arXiv 2105.13626)."""

from __future__ import annotations

import numpy as np


class ByteTokenizer:
    """One token a byte of the text; needs no file and refuses nothing.

    A byte b is token b + 3, after padding (0), end (1) and unknown (2). The last
    is never produced: a text that is no UTF-8 is kept byte by byte. Text that
    spells a special token ("</s>") is bytes like any other.

    Attributes:
      name: "bytes".
      digest: tells tokenizers apart; that of a file where there is one.
      end: token that ends a text.
      vocabulary: number of tokens, which an encoder's table needs at least.
    """

    name = "bytes"
    digest = "bytes"
    end = 1
    num_special = 3
    vocabulary = num_special + 256

    def tokens(self, text: bytes) -> np.ndarray:
        """The tokens of a text without its end, int32[number of bytes]."""
        return np.frombuffer(text, np.uint8).astype(np.int32) + self.num_special

    def text(self, tokens: np.ndarray) -> bytes:
        """Inverse of `tokens`; special tokens and what is no byte say nothing."""
        byte = np.asarray(tokens) - self.num_special
        return byte[(byte >= 0) & (byte < 256)].astype(np.uint8).tobytes()
