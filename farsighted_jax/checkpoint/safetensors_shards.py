"""Writes safetensors as the Hugging Face hub has them: one file, or shards of bounded size and an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

FILE = "model.safetensors"
INDEX = f"{FILE}.index.json"
MAX_BYTES = 4_000_000_000


def write(folder: Path, arrays: Mapping[str, Any], max_bytes: int = MAX_BYTES) -> list[Path]:
    """Writes named arrays in their own dtypes; one shard at a time is held on the host.

    Args:
      folder: where they go; it exists.
      arrays: name -> array, of numpy or jax.
      max_bytes: of the arrays of one file; a larger array has a file to itself.

    Returns:
      The files, the index last if there is one.

    Raises:
      ModuleNotFoundError: safetensors is not installed (extra "convert").
    """
    from safetensors.numpy import save_file

    parts = _parts(arrays, max_bytes)
    names = [FILE] if len(parts) == 1 else [_shard_name(i, len(parts)) for i in range(len(parts))]
    for name, part in zip(names, parts, strict=True):
        values = {path: np.asarray(arrays[path], order="C") for path in part}
        save_file(values, folder / name, metadata={"format": "np"})
    if len(parts) > 1:
        weight_map = {path: name for name, part in zip(names, parts, strict=True) for path in part}
        total = sum(int(array.nbytes) for array in arrays.values())
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        names.append(INDEX)
    return [folder / name for name in names]


def _parts(arrays, max_bytes):
    """Names in their order, cut where a file would grow too large."""
    parts, size = [[]], 0
    for name, array in arrays.items():
        if parts[-1] and size + array.nbytes > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(name)
        size += array.nbytes
    return parts


def _shard_name(index, count):
    return FILE.replace(".", f"-{index + 1:05d}-of-{count:05d}.")
