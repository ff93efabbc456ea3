"""Vectors of instructions from a frozen text encoder, computed once: a folder of them, written and read.

`text_features.json` says what made the vectors, of which splits, and lists the
files with their SHA-256. A file is safetensors, with an array float32[number of
tokens, E] a text, which holds bfloat16 exactly too. A text goes by the SHA-256
of its tokens: texts that the tokenizer makes the same of are one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from data_pipelines.cache import is_remote, write_atomically
from data_pipelines.dataset_info import split_range
from data_pipelines.errors import DatasetError
from data_pipelines.split import EpisodeSplit
from farsighted_jax.core.config import difference

ABOUT = "text_features.json"

# What vectors depend on: encoder (name), digest (of its weights as converted), tokenizer (its digest),
# length (tokens L), dtype (of the computation), width (E).
IDENTITY = ("encoder", "digest", "tokenizer", "length", "dtype", "width")
COMMAND = "farsighted text-features"


class TextFeatureError(DatasetError):
    """A folder of vectors cannot be written or read as asked; the message names folder, key and value."""


def text_key(text_L: np.ndarray, valid_L: np.ndarray) -> str:
    """What a text goes by: hex SHA-256 of its valid tokens, int32[L] where bool[L]."""
    return hashlib.sha256(text_L[valid_L].astype("<i4").tobytes()).hexdigest()


def read_about(directory: str | os.PathLike) -> dict[str, Any]:
    """What a folder says about itself: `IDENTITY`, "sources", "files", "count".

    Raises:
      TextFeatureError: it has no such document, or one that lacks a key.
    """
    path = Path(directory) / ABOUT
    if is_remote(directory):
        raise TextFeatureError(f"{directory}: text features are read from local folders; copy it first")
    try:
        about = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise TextFeatureError(f"{path}: no text features there ({error}); run `{COMMAND}`") from error
    missing = [key for key in (*IDENTITY, "sources", "files") if key not in about]
    if missing:
        raise TextFeatureError(f"{path}: lacks {missing}; it is of something else, or damaged")
    return about


def identity(directory: str | os.PathLike) -> dict[str, Any]:
    """The part of `read_about` that vectors depend on."""
    about = read_about(directory)
    return {key: about[key] for key in IDENTITY}


class TextFeatures:
    """Vectors by tokens; safe to use from threads.

    Attributes:
      identity: values of `IDENTITY`.
      width: E.
    """

    def __init__(self, directory: str | os.PathLike, expected: Mapping[str, Any] = {}):
        """Opens a folder and verifies its files; they are mapped, not read into memory.

        Args:
          directory: local folder that a `TextFeatureWriter` wrote.
          expected: values that keys of `IDENTITY` must have.

        Raises:
          TextFeatureError: no such folder, other values (lists each), or a file that has changed.
          ModuleNotFoundError: safetensors is not installed (extra "convert").
        """
        self._folder, self._about = Path(directory), read_about(directory)
        self.identity = {key: self._about[key] for key in IDENTITY}
        check_identity(self._folder, self.identity, expected)
        self.width = self.identity["width"]
        self._files = _opened(self._folder, self._about)

    def __contains__(self, key: str) -> bool:
        return key in self._files

    def check_source(self, split: EpisodeSplit) -> None:
        """Refuses a split whose instructions are not all there.

        Raises:
          TextFeatureError: the folder was not made from it, or it has changed since.
        """
        if split.whole_fingerprint not in self._about["sources"]:
            base, _ = split_range(split.split)
            raise TextFeatureError(
                f"{self._folder / ABOUT}: not made from {split.name}:{base} with fingerprint "
                f"{split.whole_fingerprint[:16]}, but from {sorted(self._about['sources'].values())}; "
                f"run `{COMMAND}` with this mixture and the same --out, which adds what is missing"
            )

    def write(
        self, text_L: np.ndarray, valid_L: np.ndarray, vector_LE: np.ndarray, instruction: bytes = b""
    ) -> None:
        """Writes the vectors of one text over a row of zeros.

        Args:
          text_L: int32[L] tokens.
          valid_L: bool[L].
          vector_LE: float32[L, E], written in place where `valid_L`.
          instruction: the text, for the message.

        Raises:
          TextFeatureError: it is not in the folder.
        """
        key = text_key(text_L, valid_L)
        if key not in self._files:
            raise TextFeatureError(
                f"{self._folder}: no vectors of the instruction {instruction!r} (key {key}); run `{COMMAND}` "
                "with this mixture and the same --out, which adds what is missing"
            )
        vector_LE[valid_L] = self._files[key].get_tensor(key)


class TextFeatureWriter:
    """Adds vectors to a folder; safe against being killed at any time, but alone: one process a folder.

    Attributes:
      keys: of the texts that are there.
    """

    def __init__(self, out: str | os.PathLike, identity: Mapping[str, Any]):
        """Makes the folder, or goes on with one whose vectors were made alike.

        Args:
          out: local folder.
          identity: values of `IDENTITY`.

        Raises:
          TextFeatureError: a URI, other values in the folder (lists each), or a damaged file in it.
          ModuleNotFoundError: safetensors is not installed (extra "convert").
        """
        if is_remote(out):
            raise TextFeatureError(f"{out}: text features are written to local folders; copy it afterwards")
        self._folder = Path(out)
        self._about: dict[str, Any] = {**identity, "sources": {}, "files": {}}
        self.keys: set[str] = set()
        if (self._folder / ABOUT).exists():
            self._about = read_about(out)
            check_identity(self._folder, {key: self._about[key] for key in IDENTITY}, identity)
            self.keys = set(_opened(self._folder, self._about))

    def write(self, vectors: Mapping[str, np.ndarray]) -> None:
        """Adds a file of texts, key -> float32[number of tokens, E]; it counts once it is listed."""
        from safetensors.numpy import save_file

        self._folder.mkdir(parents=True, exist_ok=True)
        name = f"texts-{len(self._about['files']):05d}.safetensors"
        partial = self._folder / f".{name}.partial"
        save_file({key: np.ascontiguousarray(vectors[key], np.float32) for key in vectors}, partial)
        digest = _sha256(partial)
        os.replace(partial, self._folder / name)
        self._about["files"][name] = digest
        self.keys |= set(vectors)
        self._write_about()

    def add_source(self, split: EpisodeSplit) -> None:
        """Declares that all instructions of a whole split are there."""
        self._about["sources"][split.whole_fingerprint] = f"{split.name}:{split.split}"
        self._write_about()

    def _write_about(self):
        text = json.dumps({**self._about, "count": len(self.keys)}, indent=2, sort_keys=True) + "\n"
        write_atomically(self._folder / ABOUT, text.encode())


def check_identity(folder: str | os.PathLike, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raises TextFeatureError, listing each key of `IDENTITY` whose value is not the expected one."""
    changes = difference({key: found[key] for key in expected}, expected)
    if changes:
        raise TextFeatureError(
            f"{Path(folder) / ABOUT}: vectors of something else, found -> expected: {'; '.join(changes)}; "
            f"run `{COMMAND}` with another --out"
        )


def _opened(folder, about):
    """Key -> open file, each file verified."""
    from safetensors import SafetensorError, safe_open

    found = {}
    for name, digest in about["files"].items():
        path = folder / name
        try:
            changed = _sha256(path) != digest
            file = None if changed else safe_open(path, framework="numpy")
        except (OSError, SafetensorError) as error:
            raise TextFeatureError(f"{path}: cannot be read ({error}), but {ABOUT} lists it") from error
        if changed:
            raise TextFeatureError(f"{path}: its SHA-256 is not the one in {ABOUT}; expected {digest}")
        found |= dict.fromkeys(file.keys(), file)
    return found


def _sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
