"""Where derived files (record index, episode lengths, statistics) are kept, and how they are written."""

from __future__ import annotations

import hashlib
import io
import os
import uuid
from collections.abc import Mapping
from pathlib import Path

import numpy as np

ENVIRONMENT = "FARSIGHTED_CACHE"

_DIGEST_BYTES = 32


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path is a URI such as gs://bucket/folder."""
    return "://" in os.fspath(path)


def user_folder() -> Path:
    """Where the user's cache of this project is: FARSIGHTED_CACHE, or in the user's cache folder."""
    chosen = os.environ.get(ENVIRONMENT)
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "farsighted"


def pretrained_folder(model: str) -> Path:
    """Where converted weights of a model, and their tokenizer, are looked for by name."""
    return user_folder() / "pretrained" / model


def cache_path(folder: str | os.PathLike, file_name: str, cache_dir: str | os.PathLike | None = None) -> Path:
    """Local path of a file derived from the dataset in `folder`.

    The first that applies: `cache_dir`, the environment's FARSIGHTED_CACHE, the
    folder itself if it is local and writable, the user's cache folder. A folder
    without any write bit is meant to stay as it is, even for a superuser.

    Args:
      folder: dataset folder, local or a URI.
      file_name: name of the derived file.
      cache_dir: explicit cache folder.
    """
    chosen = cache_dir or os.environ.get(ENVIRONMENT)
    folder = os.fspath(folder)
    if not chosen and not is_remote(folder) and _writable(folder):
        return Path(folder) / f".farsighted-{file_name}"
    chosen = chosen or user_folder()
    place = folder if is_remote(folder) else os.path.realpath(folder)
    digest = hashlib.sha256(place.encode()).hexdigest()[:16]
    return Path(chosen).expanduser() / f"{os.path.basename(place.rstrip('/'))}-{digest}" / file_name


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a whole file or nothing: readers never see a partial one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes named arrays as one npz behind its SHA-256, atomically."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    content = buffer.getvalue()
    write_atomically(path, hashlib.sha256(content).digest() + content)


def read_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """Arrays of `write_arrays`, or None if the file is absent or damaged (it is then rebuilt)."""
    try:
        stored = path.read_bytes()
    except OSError:
        return None
    digest, content = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _writable(folder):
    try:
        return bool(os.stat(folder).st_mode & 0o222) and os.access(folder, os.W_OK)
    except OSError:
        return False
