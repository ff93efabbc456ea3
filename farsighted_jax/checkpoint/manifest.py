"""The file manifest: size and SHA-256 of every file of a folder, written last.

A folder with a manifest is complete; one without is a leftover. The manifest
protects itself too: its text must be exactly what its content serialises to.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import mmap
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from farsighted_jax.core import hosts

NAME = "manifest.json"


class CorruptCheckpointError(RuntimeError):
    """A checkpoint's bytes are not those that were written; the message names the file."""


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Lists the folder's files, adds `content` and writes the manifest atomically.

    Args:
      folder: a folder in which nothing is being written any more.
      content: further JSON-able entries, e.g. content digests.
    """
    sizes = _sizes(folder)
    files = {name: {"bytes": size, "sha256": file_sha256(folder / name)} for name, size in sizes.items()}
    body = {**content, "files": files}
    write_atomically(folder / NAME, _text(body))


def read(folder: Path) -> dict[str, Any]:
    """The manifest's content, "files" included.

    Raises:
      CorruptCheckpointError: it is missing, unreadable or changed.
    """
    path = folder / NAME
    try:
        text = path.read_text(encoding="utf-8")
        body = json.loads(text)["body"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpointError(f"{path}: not a readable manifest ({error})") from error
    if text != _text(body):
        raise CorruptCheckpointError(f"{path}: changed since it was written (its own checksum differs)")
    return body


def verify_files(
    folder: Path, body: Mapping[str, Any], names: Iterable[str], *, shared: bool = False
) -> None:
    """Compares files with the manifest: those of the items (sub-folders), and those beside them.

    What stands beside them and fits a pattern of the manifest's own list "loose" is not compared:
    it is for people and other programs, and may be edited, added or left out.

    Args:
      folder: what the manifest stands in.
      body: its content.
      names: of the items.
      shared: whether all processes call this at once: each reads its part of the files, and
        all come to the same result.

    Raises:
      CorruptCheckpointError: lists every file that is missing, extra, of another
        size or with other content.
    """
    part = (jax.process_index(), jax.process_count()) if shared else (0, 1)
    lines = _file_differences(folder, body, names, *part)
    if shared:
        lines = {line for text in hosts.texts("\n".join(lines)) for line in text.splitlines()}
    if lines:
        raise CorruptCheckpointError("corrupt checkpoint:\n  " + "\n  ".join(sorted(lines)))


def _file_differences(folder, body, names, first, step):
    names, loose = set(names), body.get("loose", ())

    def compared(name):
        if _item(name):
            return _item(name) in names
        return not any(fnmatch.fnmatchcase(name, pattern) for pattern in loose)

    expected = {name: entry for name, entry in body["files"].items() if compared(name)}
    found = {name: size for name, size in _sizes(folder).items() if compared(name)}
    lines = [f"{folder / name}: missing" for name in expected.keys() - found.keys()]
    lines += [f"{folder / name}: not in the manifest" for name in found.keys() - expected.keys()]
    for name in sorted(expected.keys() & found.keys())[first::step]:
        size, want = found[name], expected[name]["bytes"]
        if size != want:
            lines.append(f"{folder / name}: {size} bytes, expected {want}")
        elif file_sha256(folder / name) != expected[name]["sha256"]:
            lines.append(f"{folder / name}: content changed (SHA-256 differs)")
    return lines


def items(body: Mapping[str, Any]) -> set[str]:
    """Names of the items (sub-folders) that a manifest lists."""
    return {_item(name) for name in body["files"]} - {""}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read through a memory map so that its pages serve the restore that follows."""
    with open(path, "rb") as file:
        if not os.fstat(file.fileno()).st_size:
            return hashlib.sha256().hexdigest()
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            return hashlib.sha256(view).hexdigest()


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that a reader sees the old or the new content, also after a crash."""
    partial = path.with_name(f".{path.name}.partial")
    with open(partial, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)


def complete_steps(checkpoints: Path) -> list[int]:
    """Steps whose folder has a manifest, ascending; [] where there is no such folder."""
    if not checkpoints.is_dir():
        return []
    folders = (path for path in checkpoints.iterdir() if path.name.isdecimal())
    return sorted(int(path.name) for path in folders if (path / NAME).is_file())


def _sizes(folder):
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    sizes = {path.relative_to(folder).as_posix(): path.stat().st_size for path in paths}
    return {name: size for name, size in sizes.items() if name not in (NAME, f".{NAME}.partial")}


def _item(name):
    return name.split("/", 1)[0] if "/" in name else ""


def _text(body):
    canonical = json.dumps(body, indent=1, sort_keys=True)
    return json.dumps(
        {"body": body, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}, indent=1, sort_keys=True
    )
