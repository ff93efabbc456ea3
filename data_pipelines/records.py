"""Random access to the records of TFRecord and ArrayRecord files, with checksums.

A TFRecord file is a row of [length u64, masked CRC-32C of the length u32,
payload, masked CRC-32C of the payload u32], little endian. One scan reads the
lengths; the payload is checked each time it is read. ArrayRecord files carry
their own index and hashes.
"""

from __future__ import annotations

import bisect
import dataclasses
import itertools
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import google_crc32c
import numpy as np
from array_record.python import array_record_module

from data_pipelines.cache import is_remote
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.remote import BlockReader, open_file

FORMATS = ("tfrecord", "array_record")

_HEADER = struct.Struct("<QI")
_FOOTER = struct.Struct("<I")
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_OPEN = 64


@dataclasses.dataclass(frozen=True)
class ShardIndex:
    """Where the records of one file are.

    Attributes:
      count: number of readable records R.
      offsets: int64[R] byte offset of each record's header; empty for ArrayRecord.
      lengths: int64[R] payload bytes; empty for ArrayRecord.
      checksums: uint32[R] stored masked CRC-32C of the payloads; empty for ArrayRecord.
      damage: why the scan stopped before the end of the file, "" if it did not.
    """

    count: int
    offsets: np.ndarray
    lengths: np.ndarray
    checksums: np.ndarray
    damage: str = ""


def masked_crc32c(data: bytes) -> int:
    """CRC-32C of the bytes, rotated and offset as TFRecord stores it."""
    crc = google_crc32c.value(data)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def scan(path: str, file_format: str) -> ShardIndex:
    """Index of one record file; reads lengths, not payloads.

    A file that is damaged gives the records before the damage, and `damage`.

    Raises:
      DatasetError: the file cannot be opened or read.
      ValueError: an unknown format.
    """
    if file_format == "tfrecord":
        try:
            return _scan_tfrecord(path)
        except OSError as error:
            raise DatasetError(f"{path}: cannot be read: {error}") from error
    if file_format == "array_record":
        return _scan_array_record(path)
    raise ValueError(f"record format {file_format!r} is not one of {FORMATS}")


class RecordFiles:
    """The records of a list of files, numbered through; safe to read from threads."""

    def __init__(
        self, paths: Sequence[str], indexes: Sequence[ShardIndex], counts: Sequence[int], file_format: str
    ):
        """Takes what `scan` found.

        Args:
          paths: files in order.
          indexes: index of each file.
          counts: records that each file should have; the numbering follows these,
            so that damage in one file does not renumber the next.
          file_format: one word of `FORMATS`.
        """
        self._paths = [str(path) for path in paths]
        self._indexes = list(indexes)
        self._ends = list(itertools.accumulate(counts))
        self._read = _read_tfrecord if file_format == "tfrecord" else _read_array_record
        self._handles = _Handles(_MAX_OPEN)

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def place(self, number: int) -> tuple[str, int]:
        """File and record number in that file of record `number`."""
        shard, record = self._shard_and_record(number)
        return self._paths[shard], record

    def read(self, number: int) -> bytes:
        """Payload of record `number`, checked.

        Raises:
          RecordError: the record is damaged or out of reach behind damage.
          DatasetError: the file can no longer be opened or read, which is no damage.
          IndexError: no such number.
        """
        shard, record = self._shard_and_record(number)
        path, index = self._paths[shard], self._indexes[shard]
        if record >= index.count:
            raise RecordError(path, record, f"out of reach: {index.damage or 'the file ends before it'}")
        try:
            return self._read(self._handles, path, index, record)
        except OSError as error:
            raise DatasetError(f"{path}: record {record}: cannot be read: {error}") from error

    def _shard_and_record(self, number):
        if not 0 <= number < len(self):
            raise IndexError(f"record {number} is not within 0..{len(self) - 1}")
        shard = bisect.bisect_right(self._ends, number)
        return shard, number - (self._ends[shard - 1] if shard else 0)


def _scan_tfrecord(path):
    source = _open_source(path)
    if is_remote(path):
        source = BlockReader(source)
    size = source.size
    offsets, lengths, checksums = [], [], []
    damage = "the file is empty" if size == 0 else ""
    offset, header = 0, source.read_at(0, _HEADER.size)
    while offset < size:
        damage = _header_damage(header, offset, size)
        if damage:
            break
        length = _HEADER.unpack(header)[0]
        end = offset + _HEADER.size + length
        tail = source.read_at(end, _FOOTER.size + _HEADER.size)
        if len(tail) < _FOOTER.size:
            damage = f"truncated in the checksum of record {len(offsets)} at byte {end + len(tail)}"
            break
        offsets.append(offset)
        lengths.append(length)
        checksums.append(_FOOTER.unpack_from(tail)[0])
        offset, header = end + _FOOTER.size, tail[_FOOTER.size :]
    return ShardIndex(
        len(offsets),
        np.array(offsets, np.int64),
        np.array(lengths, np.int64),
        np.array(checksums, np.uint32),
        damage,
    )


def _header_damage(header, offset, size):
    if offset == 0 and header[:2] == _GZIP_MAGIC:
        return "gzip-compressed; expected a plain TFRecord file (decompress it)"
    if len(header) < _HEADER.size:
        return f"truncated in the header of the record at byte {offset}: the file ends at byte {size}"
    length, checksum = _HEADER.unpack(header)
    if masked_crc32c(header[:8]) != checksum:
        return f"broken length of the record at byte {offset}: its CRC-32C differs (damaged, or no TFRecord)"
    if offset + _HEADER.size + length + _FOOTER.size > size:
        return f"truncated: the record at byte {offset} has {length} bytes, the file ends at byte {size}"
    return ""


def _read_tfrecord(handles, path, index, record):
    source = handles.get(path, lambda: _open_source(path), shared=not is_remote(path))
    offset, length = int(index.offsets[record]), int(index.lengths[record])
    data = source.read_at(offset, _HEADER.size + length + _FOOTER.size)
    if len(data) != _HEADER.size + length + _FOOTER.size:
        raise RecordError(
            path, record, f"truncated: {len(data)} bytes at byte {offset}, expected {length + 16}"
        )
    found, checksum = _HEADER.unpack_from(data)
    if found != length or masked_crc32c(data[:8]) != checksum:
        raise RecordError(path, record, f"broken length at byte {offset}, expected {length} as in the index")
    payload = data[_HEADER.size : -_FOOTER.size]
    stored, computed = _FOOTER.unpack(data[-_FOOTER.size :])[0], masked_crc32c(payload)
    if stored != computed:
        raise RecordError(
            path,
            record,
            f"CRC-32C of the payload is {computed:#010x}, expected {stored:#010x} (at byte {offset})",
        )
    return payload


def _scan_array_record(path):
    none = np.zeros(0, np.int64)
    try:
        count = _open_array_record(path).reader.num_records()
        # The package reports a file without a readable footer as one without records.
        damage = "" if count else "no record found: the file is empty, cut or no ArrayRecord file"
    except RecordError as error:
        count, damage = 0, error.reason
    return ShardIndex(count, none, none, none.astype(np.uint32), damage)


def _read_array_record(handles, path, index, record):
    handle = handles.get(path, lambda: _open_array_record(path), shared=True)
    try:
        with handle.lock:
            (payload,) = handle.reader.read([record])
    except Exception as error:
        raise RecordError(path, record, f"ArrayRecord cannot be read: {_first_line(error)}") from error
    return payload


def _open_array_record(path):
    if is_remote(path):
        raise RecordError(
            path, None, "ArrayRecord is read from local files only; copy the dataset or use TFRecord"
        )
    try:
        return _ArrayRecord(array_record_module.ArrayRecordReader(path, options="readahead_buffer_size:0"))
    except Exception as error:
        raise RecordError(path, None, f"no readable ArrayRecord file: {_first_line(error)}") from error


def _open_source(path):
    return open_file(path) if is_remote(path) else _LocalFile(path)


def _first_line(error):
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


class _ArrayRecord:
    """An open ArrayRecord file; its reader is used by one thread at a time."""

    def __init__(self, reader):
        self.reader = reader
        self.lock = threading.Lock()


class _LocalFile:
    """A file read by position, from any number of threads; closed with its last reference."""

    def __init__(self, path):
        self._descriptor = -1
        self._descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        self.size = os.fstat(self._descriptor).st_size

    def read_at(self, offset: int, size: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while 0 < len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def __del__(self, close=os.close):
        if self._descriptor >= 0:
            close(self._descriptor)


class _Handles:
    """A bounded number of open files; one that is evicted closes when its last reader is done."""

    def __init__(self, limit: int):
        self._limit = limit
        self._open: OrderedDict[Any, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str, opener: Callable[[], Any], *, shared: bool) -> Any:
        """The open file; one for all threads if `shared`, else one a thread."""
        key = path if shared else (path, threading.get_ident())
        with self._lock:
            handle = self._open.get(key)
            if handle is not None:
                self._open.move_to_end(key)
                return handle
        opened = opener()
        with self._lock:
            handle = self._open.setdefault(key, opened)
            while len(self._open) > self._limit:
                self._open.popitem(last=False)
        return handle
