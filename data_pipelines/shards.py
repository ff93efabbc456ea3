"""Shards of records, each with a receipt: written alone or beside other hosts, and gone on with after a kill.

A shard is written under another name, renamed, and then gets its receipt, a JSON
file with its size and SHA-256: a shard without one does not count.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from array_record.python import array_record_module

from data_pipelines.cache import write_atomically


def shard_episodes(num_episodes: int, num_shards: int, shard: int) -> range:
    """Episodes that a shard holds, as many as every other one but for rounding."""
    bounds = np.linspace(0, num_episodes, num_shards + 1).astype(int)
    return range(int(bounds[shard]), int(bounds[shard + 1]))


def is_done(path: Path, receipt: Path) -> bool:
    """Whether a shard is there, byte for byte as its receipt says."""
    try:
        stored = json.loads(receipt.read_text(encoding="utf-8"))
        return stored == stored | _fingerprint(path)
    except (OSError, ValueError, TypeError):
        return False


def write_shard(
    path: Path, receipt: Path, records: Iterable[bytes], options: str, about: Mapping[str, Any]
) -> None:
    """Writes a shard and its receipt; where `records` raises, neither is there.

    Args:
      path: ArrayRecord file to write.
      receipt: file to write once that is complete.
      records: its records in order.
      options: of ArrayRecord.
      about: what else the receipt says, for JSON.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        writer = array_record_module.ArrayRecordWriter(os.fspath(partial), options)
        for record in records:
            writer.write(record)
        writer.close()
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    write_atomically(receipt, (json.dumps({**about, **_fingerprint(path)}) + "\n").encode())


def _fingerprint(path):
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return {"bytes": file.tell(), "sha256": digest}
