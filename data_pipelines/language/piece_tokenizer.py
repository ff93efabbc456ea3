"""T5's pieces of words, read from a `tokenizer.json` by the library `tokenizers`."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
from etils import epath

from data_pipelines.errors import TokenizerError

FILE = "tokenizer.json"
END = "</s>"


class PieceTokenizer:
    """Words in pieces, as the file says; it is JSON, so reading it runs no code.

    A text that is no UTF-8 has U+FFFD for what cannot be read, which T5 knows
    as no piece: it becomes its token for the unknown. A text that spells a
    special token ("</s>", "<extra_id_0>") gets that token, as T5's own has it.

    Attributes:
      name: the file's place as it was given.
      digest: SHA-256 of the file.
      end: token that ends a text.
      vocabulary: number of tokens, which an encoder's table needs at least.
    """

    def __init__(self, place: str | os.PathLike):
        """Reads a file, or the one in a folder, local or a URI.

        Raises:
          TokenizerError: no such file, not a tokenizer, without an end, or
            another file than the folder's manifest says.
          ImportError: `tokenizers` is not installed; names the extra.
        """
        path = epath.Path(place)
        path = path / FILE if path.is_dir() else path
        content = _content(path)
        self.name, self.digest = os.fspath(place), hashlib.sha256(content).hexdigest()
        _check_manifest(path, self.digest)
        self._tokenizer = _tokenizer(path, content)
        # The file may hold lengths that somebody trained with; ours are in the configuration.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        end = self._tokenizer.token_to_id(END)
        if end is None:
            raise TokenizerError(f"{path}: has no token {END!r}, with which T5 ends a text")
        self.end = end
        self.vocabulary = 1 + max(self._tokenizer.get_vocab(with_added_tokens=True).values())

    def tokens(self, text: bytes) -> np.ndarray:
        """The tokens of a text without its end, int32[number of pieces]."""
        decoded = text.decode("utf-8", errors="replace")
        return np.array(self._tokenizer.encode(decoded, add_special_tokens=False).ids, np.int32)

    def text(self, tokens: np.ndarray) -> bytes:
        """What tokens say, about as it was said; special ones say nothing."""
        return self._tokenizer.decode(np.asarray(tokens).tolist(), skip_special_tokens=True).encode()


def _content(path):
    try:
        return path.read_bytes()
    except OSError as error:
        raise TokenizerError(
            f"{path}: no tokenizer there ({type(error).__name__}); expected {FILE}, or a folder with it: "
            "`farsighted convert --model t5-base` brings it along"
        ) from error


def _check_manifest(path, digest):
    """Converted weights come with a list of their files."""
    manifest = path.parent / "manifest.json"
    if not manifest.exists():
        return
    try:
        listed = json.loads(manifest.read_text())["body"]["files"][path.name]["sha256"]
    except (ValueError, KeyError, TypeError) as error:
        raise TokenizerError(f"{path}: {manifest.name} beside it does not list it ({error!r})") from error
    if listed != digest:
        raise TokenizerError(f"{path}: SHA-256 {digest}, expected {listed} as in {manifest.name}")


def _tokenizer(path, content):
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError("T5's tokenizer needs tokenizers: pip install farsighted-jax[text]") from error
    try:
        return tokenizers.Tokenizer.from_str(content.decode("utf-8"))
    # The library raises plain Exception for a file that it cannot read.
    except Exception as error:
        raise TokenizerError(f"{path}: not a tokenizer ({str(error)[:200]})") from error
