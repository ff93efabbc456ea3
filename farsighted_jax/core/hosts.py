"""What the processes of one run tell each other; with one process everything here does nothing.

All of it is collective: every process must make the same calls in the same order, from its main thread.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from farsighted_jax.core.config import difference

# Texts travel in arrays of few sizes, so that few programs are compiled for them.
_SMALLEST = 1 << 10


class HostError(RuntimeError):
    """Another process of the run failed, or is not like this one; the message names it."""


def is_first() -> bool:
    """Whether this process is the one that writes what a run writes once."""
    return jax.process_index() == 0


def wait_for_all(name: str) -> None:
    """Returns once every process has come here; `name` must be the same."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def texts(text: str) -> list[str]:
    """The text of every process, in their order."""
    if jax.process_count() == 1:
        return [text]
    raw = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(raw)))
    room = max(_SMALLEST, 1 << int(sizes.max() - 1).bit_length()) if sizes.max() else _SMALLEST
    padded = np.zeros(room, np.uint8)
    padded[: len(raw)] = raw
    gathered = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(gathered, sizes, strict=True)]


@contextlib.contextmanager
def together(doing: str) -> Iterator[None]:
    """What fails in one process fails in all, so that none waits for another for ever.

    Inside no process may wait for another.

    Args:
      doing: names the work in the message of the processes that did not fail themselves.

    Raises:
      HostError: another process failed; names each and has its message.
    """
    try:
        yield
    except Exception as error:
        texts(f"{type(error).__name__}: {error}")
        known_to_all(error)
        raise
    failed = [f"process {index}: {line}" for index, line in enumerate(texts("")) if line]
    if failed:
        raise known_to_all(HostError(f"{doing} failed on {'; '.join(failed)}"))


def from_first(function: Callable[[], Any], doing: str) -> Any:
    """What `function` gives on the first process, JSON-able, on every one; it is called there alone.

    Raises:
      HostError: it raised there, where its own error is raised.
    """
    if jax.process_count() == 1:
        return function()
    result = None
    with together(doing):
        if is_first():
            result = function()
    return json.loads(texts(json.dumps(result) if is_first() else "")[0])


def check_alike(documents: Mapping[str, Any]) -> None:
    """Refuses to go on with a process whose documents differ from those of the first.

    Args:
      documents: JSON-able, maybe nested.

    Raises:
      HostError: in every process; names the ones that differ, each key and both values.
    """
    first, *others = (json.loads(text) for text in texts(json.dumps(documents, sort_keys=True)))
    lines = [
        f"process {index}: {line}"
        for index, other in enumerate(others, start=1)
        for line in difference(first, other)
    ]
    if lines:
        listed = "\n  ".join(lines)
        raise known_to_all(
            HostError(f"the processes of a run must be alike; process 0 -> others:\n  {listed}")
        )


def known_to_all(error: Exception) -> Exception:
    """Marks an error that every process raises: it may end the process in good order."""
    error.known_to_all = True
    return error


def whole(tree: Any) -> Any:
    """Arrays over all processes as numpy, on every process; those of one process alone stay as they are."""

    def gathered(leaf):
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return multihost_utils.process_allgather(leaf, tiled=True)
        return np.asarray(leaf)

    return jax.tree.map(gathered, tree)


def joined_rows(rows: Any) -> Any:
    """Rows of every process, one after the other in their order, on every process.

    Args:
      rows: tree of host arrays with the same shapes everywhere.
    """
    return rows if jax.process_count() == 1 else multihost_utils.process_allgather(rows, tiled=True)
