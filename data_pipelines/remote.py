"""Folders and files behind URIs: http:// and https:// by the standard library, others by etils and fsspec."""

from __future__ import annotations

import importlib.util
import os
from typing import Any

from etils import epath

from data_pipelines.errors import RemoteError
from data_pipelines.http_files import SCHEMES, HttpFile, HttpPath

# What reads other URIs, by their beginning: packages of which one is needed, and what to run without them.
_NEEDED = {
    "gs": (("gcsfs", "tensorflow"), "pip install -e '.[gcs]'"),
    "s3": (("s3fs", "tensorflow"), "pip install s3fs"),
}
# Records' headers stand apart; what follows one is often the next.
_BLOCK = 2**16


def path_of(place: str | os.PathLike) -> Any:
    """A path of which `/`, name, parent, exists, iterdir, read_text and os.fspath can be had.

    Raises:
      RemoteError: here, if a package is needed that is not installed; from its methods, if a web server
        does not give what is asked for.
    """
    text = os.fspath(place)
    return HttpPath(text) if _scheme(text) in SCHEMES else _epath(text)


def size_and_time(uri: str) -> tuple[int, int]:
    """Size in bytes and time of the last change in ns of a file behind a URI; OSError if it cannot be had."""
    if _scheme(uri) in SCHEMES:
        file = HttpFile(uri)
        file.close()
        return file.size, int(file.time * 1e9)
    stat = _epath(uri).stat()
    return int(stat.length), int(float(stat.mtime or 0) * 1e9)


def open_file(uri: str) -> HttpFile | SeekableFile:
    """A file behind a URI, read by position; for one thread at a time; OSError."""
    return HttpFile(uri) if _scheme(uri) in SCHEMES else SeekableFile(uri)


class SeekableFile:
    """A file behind a URI, read by seeking.

    Attributes:
      size: in bytes.
    """

    def __init__(self, uri: str):
        """Opens it; OSError."""
        self.size, _ = size_and_time(uri)
        self._stream = _epath(uri).open("rb")

    def read_at(self, offset: int, size: int) -> bytes:
        """Bytes from an offset on, fewer at the end of the file; OSError."""
        self._stream.seek(offset)
        return self._stream.read(size)

    def __del__(self):
        stream = getattr(self, "_stream", None)
        if stream is not None:
            stream.close()


class BlockReader:
    """A file read in blocks, for small pieces in rising order: a request takes longer than its bytes."""

    def __init__(self, file: Any):
        """Takes what `open_file` returned."""
        self._file, self._begin, self._block = file, 0, b""
        self.size = file.size

    def read_at(self, offset: int, size: int) -> bytes:
        """As that of the file."""
        size = max(0, min(size, self.size - offset))
        if not self._begin <= offset <= offset + size <= self._begin + len(self._block):
            self._begin, self._block = offset, self._file.read_at(offset, max(size, _BLOCK))
        return self._block[offset - self._begin :][:size]


def _scheme(text):
    return text.partition("://")[0].lower() if "://" in text else ""


def _epath(text):
    packages, command = _NEEDED.get(_scheme(text), ((), ""))
    if packages and not any(importlib.util.find_spec(package) for package in packages):
        raise RemoteError(f"{text}: reading it needs the package {packages[0]!r}, run: {command}")
    return epath.Path(text)
