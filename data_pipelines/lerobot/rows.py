"""Rows of parquet files: only the row groups that hold them are read, and kept for a while."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import numpy as np

from data_pipelines.errors import RecordError

MAX_BYTES = 2**28
MAX_FOOTERS = 1024


class RowReader:
    """Reads rows of files in one folder; safe to use from threads.

    Row groups of the files read last are kept, up to `max_bytes` besides the last one.
    """

    def __init__(self, folder: str, max_bytes: int = MAX_BYTES):
        """Takes the folder that paths are relative to."""
        self._folder, self._max_bytes, self._lock = folder, max_bytes, threading.Lock()
        self._footers: OrderedDict[str, Any] = OrderedDict()
        self._groups: OrderedDict[tuple, Any] = OrderedDict()

    def rows(self, path: str, columns: Sequence[str], first: int, count: int) -> Any:
        """Rows [first, first + count) of some columns, a pyarrow Table.

        Raises:
          RecordError: the file cannot be read, lacks a column or ends before the last row; names it.
        """
        import pyarrow as pa

        full = os.path.join(self._folder, path)
        try:
            metadata = self._metadata(path)
            have = metadata.schema.to_arrow_schema().names
            if missing := [name for name in columns if name not in have]:
                raise RecordError(full, None, f"no column(s) {missing}; it has {have}")
            if first + count > metadata.num_rows:
                raise RecordError(
                    full, None, f"{metadata.num_rows} rows, expected at least {first + count} by meta/"
                )
            parts, begin = [], 0
            for group in range(metadata.num_row_groups):
                end = begin + metadata.row_group(group).num_rows
                low, high = max(first, begin), min(first + count, end)
                if low < high:
                    table = self._group(path, group, tuple(columns))
                    parts.append(table.slice(low - begin, high - low))
                begin = end
            if not parts:
                schema = metadata.schema.to_arrow_schema()
                return pa.schema([schema.field(name) for name in columns]).empty_table()
            return pa.concat_tables(parts)
        except (OSError, pa.ArrowException) as error:
            raise RecordError(full, None, f"cannot be read as parquet: {error}") from error

    def _metadata(self, path):
        import pyarrow.parquet as pq

        with self._lock:
            if path in self._footers:
                self._footers.move_to_end(path)
                return self._footers[path]
        metadata = pq.read_metadata(os.path.join(self._folder, path))
        with self._lock:
            self._footers[path] = metadata
            if len(self._footers) > MAX_FOOTERS:
                self._footers.popitem(last=False)
        return metadata

    def _group(self, path, group, columns):
        import pyarrow.parquet as pq

        key = path, group, columns
        with self._lock:
            if key in self._groups:
                self._groups.move_to_end(key)
                return self._groups[key]
        with pq.ParquetFile(os.path.join(self._folder, path), metadata=self._metadata(path)) as file:
            table = file.read_row_group(group, columns=list(columns), use_threads=False)
        with self._lock:
            self._groups[key] = table
            while len(self._groups) > 1 and sum(t.nbytes for t in self._groups.values()) > self._max_bytes:
                self._groups.popitem(last=False)
        return table


def vectors(column: Any, width: int) -> np.ndarray:
    """A column of numbers, or of lists of `width` numbers, as [L, width]; ValueError where a list differs."""
    import pyarrow as pa

    values = column.combine_chunks()
    if isinstance(values, pa.ChunkedArray):
        values = values.chunk(0) if values.num_chunks else pa.array([], type=values.type)
    if isinstance(values, pa.ExtensionArray):
        values = values.storage
    if values.null_count:
        raise ValueError(f"{values.null_count} values are missing")
    nested = pa.types.is_list(values.type) or pa.types.is_fixed_size_list(values.type)
    nested = nested or pa.types.is_large_list(values.type)
    flat = values.flatten() if nested else values
    if len(flat) != len(values) * width:
        raise ValueError(f"{len(flat)} numbers in {len(values)} rows, expected {width} a row")
    return flat.to_numpy(zero_copy_only=False).reshape(len(values), width)
