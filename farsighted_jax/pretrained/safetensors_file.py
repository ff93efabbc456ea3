"""Reads safetensors: a JSON header of names, dtypes, shapes and byte ranges, then the bytes.

Nothing in such a file can be code. The header is checked against the file
before an array is made: every range inside the file, of the size that dtype
and shape say, none overlapping, no byte left over. Arrays are views of the
mapped file; reading one reads its pages.

Files of torch (.pt, .bin, .pth, .ckpt) are pickles, which run code when they are
read; they are refused with the way to convert them.
"""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Mapping
from pathlib import Path

import ml_dtypes
import numpy as np

FILE = "model.safetensors"
INDEX = "model.safetensors.index.json"
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle")

_DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
_LENGTH_BYTES = 8
# The limit of the reference implementation; a longer header is no header.
_MAX_HEADER_BYTES = 100_000_000


class WeightsFileError(ValueError):
    """A file of weights is missing, of another kind or damaged; the message names it."""


class PickleRefusedError(WeightsFileError):
    """A file that runs code when it is read; the message says how to convert it."""


def read(source: Path) -> dict[str, np.ndarray]:
    """All arrays of a file, of an index with its shards, or of a folder with either.

    Args:
      source: see `files`.

    Returns:
      name -> read-only array.

    Raises:
      WeightsFileError: names the file and what is wrong with it.
      PickleRefusedError: see there.
    """
    paths = files(source)
    index = next((path for path in paths if path.name.endswith(".json")), None)
    arrays: dict[str, np.ndarray] = {}
    home: dict[str, str] = {}
    for path in paths:
        if path == index:
            continue
        for name, array in read_file(path).items():
            if name in arrays:
                raise WeightsFileError(f"{path}: {name!r} stands in {home[name]} too")
            arrays[name], home[name] = array, path.name
    if index is not None:
        _compare(index, _weight_map(index), home)
    return arrays


def files(source: Path) -> list[Path]:
    """The files that hold a set of weights.

    Args:
      source: a .safetensors file, a .safetensors.index.json file, or a folder
        that holds `FILE`, `INDEX` or exactly one other .safetensors file.

    Returns:
      The safetensors files, after the index if there is one.

    Raises:
      WeightsFileError: nothing usable, several candidates, or a missing shard.
      PickleRefusedError: see there.
    """
    path = _in_folder(source) if source.is_dir() else source
    if path.suffix.lower() in PICKLES:
        raise PickleRefusedError(refusal(path))
    if not path.is_file():
        raise WeightsFileError(f"{path}: no such file")
    if path.name.endswith(".index.json"):
        paths = [path.with_name(name) for name in shards(path)]
        missing = [shard.name for shard in paths if not shard.is_file()]
        if missing:
            raise WeightsFileError(f"{path}: its shards {missing} are not beside it")
        return [path, *paths]
    if path.suffix != ".safetensors":
        raise WeightsFileError(f"{path}: expected a .safetensors or a .safetensors.index.json file")
    return [path]


def shards(index: Path) -> list[str]:
    """Names of the files that an index is about, sorted; they stand beside it."""
    return sorted(set(_weight_map(index).values()))


def refusal(path: Path) -> str:
    """What is said about a file of torch: why it is not read, and the command that converts it."""
    target = path.with_suffix(".safetensors")
    return (
        f"{path}: files of torch are pickles, which can run code, and are not read. Convert it once, where "
        "torch is installed and the file is trusted (a state dict may stand under a key such as 'model'):\n"
        '  python -c "import torch, safetensors.torch as s; '
        f"d = torch.load('{path}', map_location='cpu', weights_only=True); "
        "s.save_file({k: v.clone().contiguous() for k, v in d.items()}, "
        f"'{target}')\""
    )


def read_file(path: Path) -> dict[str, np.ndarray]:
    """All arrays of one safetensors file; WeightsFileError if it is damaged."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        start = _LENGTH_BYTES + length
        if size < _LENGTH_BYTES or length > min(_MAX_HEADER_BYTES, size - _LENGTH_BYTES):
            raise WeightsFileError(f"{path}: no safetensors file, or cut off ({size} bytes)")
        header = _header(path, file.read(length))
        if size == start:
            view = b""
        else:
            view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    entries = {name: _entry(path, name, entry) for name, entry in header.items() if name != "__metadata__"}
    _check_ranges(path, entries, size - start)
    return {
        name: np.frombuffer(view, dtype, int(np.prod(shape)), start + begin).reshape(shape)
        if end > begin
        else np.zeros(shape, dtype)
        for name, (dtype, shape, begin, end) in entries.items()
    }


def _header(path, text):
    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError) as error:
        raise WeightsFileError(
            f"{path}: the header is not JSON, or names a tensor twice ({error})"
        ) from error
    if not isinstance(header, dict):
        raise WeightsFileError(f"{path}: the header is a {type(header).__name__}, expected an object")
    return header


def _without_duplicates(pairs):
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError(f"{max(keys, key=keys.count)!r} twice")
    return dict(pairs)


def _entry(path, name, entry):
    """(dtype, shape, begin, end) of a header's line, checked."""
    try:
        shape = tuple(_count(size) for size in entry["shape"])
        begin, end = (_count(offset) for offset in entry["data_offsets"])
        kind = str(entry["dtype"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsFileError(f"{path}: {name!r} has no usable header line: {entry!r:.200}") from error
    if kind not in _DTYPES:
        raise WeightsFileError(f"{path}: {name!r} has dtype {kind!r}, expected one of {', '.join(_DTYPES)}")
    dtype = np.dtype(_DTYPES[kind])
    # Python's integers, since a product of forged sizes may overflow those of numpy.
    needed = dtype.itemsize
    for axis in shape:
        needed *= axis
    if end - begin != needed:
        raise WeightsFileError(
            f"{path}: {name!r}, {kind}{list(shape)}, needs {needed} bytes, its range has {end - begin}"
        )
    return dtype, shape, begin, end


def _count(value):
    if type(value) is not int or value < 0:
        raise ValueError(f"{value!r} is no count")
    return value


def _check_ranges(path, entries, size):
    """The ranges must tile the bytes after the header."""
    position = 0
    for name, (_, _, begin, end) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != position:
            raise WeightsFileError(f"{path}: {name!r} begins at byte {begin}, expected {position}")
        position = end
    if position != size:
        raise WeightsFileError(f"{path}: the header describes {position} bytes of data, the file has {size}")


def _in_folder(folder: Path) -> Path:
    for name in (INDEX, FILE):
        if (folder / name).is_file():
            return folder / name
    found = sorted(folder.glob("*.safetensors"))
    if len(found) == 1:
        return found[0]
    if found:
        raise WeightsFileError(f"{folder}: which of {[path.name for path in found]}? name the file")
    pickles = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICKLES)
    if pickles:
        raise PickleRefusedError(refusal(pickles[0]))
    raise WeightsFileError(f"{folder}: holds no .safetensors file")


def _weight_map(index: Path) -> Mapping[str, str]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = set(weight_map.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsFileError(f"{index}: expected a JSON object with a weight_map ({error})") from error
    for name in names:
        # The index decides what is opened: it may name files beside it, nothing else.
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(".safetensors"):
            raise WeightsFileError(f"{index}: {name!r} is no name of a .safetensors file beside it")
    return weight_map


def _compare(index, weight_map, home):
    lines = [
        f"{name}: found in {home.get(name, 'no shard')}, expected in {weight_map.get(name, 'no shard')}"
        for name in sorted({*weight_map, *home})
        if home.get(name) != weight_map.get(name)
    ]
    if lines:
        raise WeightsFileError(f"{index}: does not describe its shards:\n  " + "\n  ".join(lines))
