"""A release: one self-contained folder with all that a trained model needs, verified when it is read.

It holds documents (config.json, statistics.json and those of `cli.publish`), a
folder an item as Orbax writes it (frozen networks stand in params), the same
arrays as safetensors for other programs, named item/path, an input with what
the model makes of it, a model card, and a manifest that is written last: format,
kind, step, SHA-256 of every file, digest of every array.
"""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orbax.checkpoint as ocp

from farsighted_jax.checkpoint import digest, manifest, safetensors_shards
from farsighted_jax.core import tree

# Raised when a reader of this version could not read what is written, or would read it wrongly.
FORMAT = 1
KINDS = ("lam", "policy")

CARD, EXAMPLE = "README.md", "example.npz"
# People edit cards and evaluate, hubs add hidden files, and whoever loads the Orbax folders needs no
# second copy.
LOOSE = (CARD, "eval.json", ".*", "model*.safetensors*")

_KEY = "release"
_PLACE = re.compile(r"([/\\~]|\.\.|[A-Za-z]:[/\\]|[a-z0-9+]+://)")


class ReleaseError(ValueError):
    """A folder is no release, is one of another format, or is in the way; the message names it."""


@dataclasses.dataclass(frozen=True)
class Release:
    """A release folder whose documents have been verified.

    Attributes:
      folder: where it is.
      body: content of its manifest.
    """

    folder: Path
    body: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """What it holds, a word of `KINDS`."""
        return self.body[_KEY]["kind"]

    @property
    def step(self) -> int:
        """Training steps done."""
        return self.body[_KEY]["step"]

    @property
    def digest(self) -> str:
        """Of all arrays, 64 hex digits."""
        return digest.tree_digest(_flat_digests(self.body["digests"]))

    def has(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return name in self.body["files"]

    def text(self, name: str) -> str:
        """A text file, e.g. "config.json"."""
        return (self.folder / name).read_text(encoding="utf-8")

    def document(self, name: str) -> Any:
        """A JSON document, e.g. "statistics.json"."""
        return json.loads(self.text(name))

    def example(self) -> dict[str, np.ndarray]:
        """The arrays of the example."""
        with np.load(self.folder / EXAMPLE, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}


def write(
    out: Path,
    *,
    kind: str,
    step: int,
    version: str,
    items: Mapping[str, Any],
    documents: Mapping[str, Any],
    example: Mapping[str, np.ndarray],
    card: str,
    files: Mapping[str, bytes] = {},
    max_bytes: int = safetensors_shards.MAX_BYTES,
) -> Release:
    """Writes a release that is either complete or not there.

    Args:
      out: folder to make.
      kind: a word of `KINDS`.
      step: training steps done.
      version: of this package.
      items: name -> tree of dicts of arrays; empty ones are left out.
      documents: file name -> JSON-able value.
      example: name -> array.
      card: text of the model card.
      files: further files, name -> content.
      max_bytes: see `safetensors_shards.write`.

    Raises:
      ReleaseError: `out` exists, or a kind that is none.
      ModuleNotFoundError: safetensors is not installed.
    """
    if kind not in KINDS:
        raise ReleaseError(f"release of kind {kind!r}, expected one of {KINDS}")
    if out.exists():
        raise ReleaseError(f"{out}: there already; remove it or choose another folder")
    items = {name: item for name, item in items.items() if tree.flat_paths(item)}
    digests = {name: digest.content_digests(item) for name, item in items.items()}
    about = {"format": FORMAT, "kind": kind, "step": int(step), "version": version}
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with ocp.StandardCheckpointer() as checkpointer:
            for name, item in items.items():
                checkpointer.save(partial.absolute() / name, item)
        # Orbax names the place it wrote to; that the file is there is what counts.
        for path in partial.glob("*/commit_success.txt"):
            path.write_text("Checkpoint commit was successful")
        safetensors_shards.write(partial, _flat_arrays(items), max_bytes)
        for name, value in documents.items():
            text = json.dumps(value, indent=2, sort_keys=True) + "\n"
            (partial / name).write_text(text, encoding="utf-8")
        for name, content in {**files, EXAMPLE: _npz(example), CARD: card.encode()}.items():
            (partial / name).write_bytes(content)
        manifest.write(partial, {_KEY: about, "digests": digests, "loose": list(LOOSE)})
        partial.rename(out)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return read(out)


def found(folder: Path) -> Release | None:
    """As `read`, or None where the folder is something else, such as a run."""
    if not (folder / manifest.NAME).is_file() or _KEY not in manifest.read(folder):
        return None
    return read(folder)


def read(folder: Path) -> Release:
    """Opens a release and verifies its documents; arrays are verified when they are read.

    Raises:
      ReleaseError: no release, or one of a format that this version does not know.
      CorruptCheckpointError: names the file that differs from what was written.
    """
    if not (folder / manifest.NAME).is_file():
        raise ReleaseError(
            f"{folder}: no release, it has no {manifest.NAME}; `farsighted publish RUN OUT` makes one"
        )
    body = manifest.read(folder)
    about = body.get(_KEY, {})
    number, kind = about.get("format"), about.get("kind")
    if not about:
        raise ReleaseError(f"{folder}: {manifest.NAME} is that of something else, expected a release")
    if number not in range(1, FORMAT + 1) or kind not in KINDS:
        raise ReleaseError(
            f"{folder}: release of format {number!r} and kind {kind!r}, written by version "
            f"{about.get('version')!r}; this version reads formats 1 to {FORMAT} of {' and '.join(KINDS)}"
        )
    manifest.verify_files(folder, body, ())
    return Release(folder, body)


def without_places(value: Any) -> Any:
    """A document in which no string is a place on this machine or a URI: the last part of each stays."""
    if isinstance(value, Mapping):
        return {key: without_places(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_places(item) for item in value]
    if isinstance(value, str) and _PLACE.match(value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value


def _flat_arrays(items):
    return {
        f"{name}/{path}": leaf for name, item in items.items() for path, leaf in tree.flat_paths(item).items()
    }


def _flat_digests(digests):
    return {f"{name}/{path}": value for name, item in digests.items() for path, value in item.items()}


def _npz(arrays):
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
