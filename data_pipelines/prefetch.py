"""Ordered read-ahead with threads: results in order, bounded memory, errors and stuck readers surface."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# How long closing, and the end of the process, wait for readers to finish what they are at.
CLOSE_WAIT_S = 1.0
EXIT_WAIT_S = 10.0


class ReaderError(RuntimeError):
    """A reader gave no result in time."""


def read_ahead(
    function: Callable[[Any], Any], items: Iterable[Any], *, readers: int, prefetch: int, timeout_s: float
) -> Iterator[tuple[Any, Any]]:
    """Yields (item, function(item)) in the order of `items`, computed ahead by threads.

    At most `prefetch` results exist or are in the making, besides the one the
    caller holds. The threads are daemons and end when the iterator is closed.

    Args:
      function: called from several threads at once.
      items: finite or infinite.
      readers: number of threads.
      prefetch: bound of the read-ahead.
      timeout_s: longest wait for the next result.

    Raises:
      ReaderError: nothing within `timeout_s`; the message names the item.
      Exception: what `function` raised, with a note that names the item.
    """
    if readers < 1 or prefetch < 1:
        raise ValueError(f"readers {readers} and prefetch {prefetch}: expected both >= 1")
    window = _Window(items, prefetch)
    threads = [
        threading.Thread(target=_work, args=(window, function), name=f"reader-{i}", daemon=True)
        for i in range(min(readers, prefetch))
    ]

    def stop(wait_s):
        window.close()
        end = time.monotonic() + wait_s
        for thread in threads:
            thread.join(timeout=max(0.0, end - time.monotonic()))

    def stop_at_exit():
        stop(EXIT_WAIT_S)

    # A thread inside a C++ library while the interpreter shuts down aborts the process.
    atexit.register(stop_at_exit)
    for thread in threads:
        thread.start()
    try:
        while (result := window.take(timeout_s)) is not None:
            yield result
    finally:
        stop(CLOSE_WAIT_S)
        if not any(thread.is_alive() for thread in threads):
            atexit.unregister(stop_at_exit)


def _work(window, function):
    while (place := window.claim()) is not None:
        index, item = place
        try:
            window.put(index, item, function(item), None)
        except BaseException as error:  # handed to the consumer, which raises it
            window.put(index, item, None, error)


class _Window:
    """The places between the last result taken and the last item claimed."""

    def __init__(self, items, prefetch):
        self._items, self._prefetch = iter(items), prefetch
        self._changed = threading.Condition()
        self._claimed: dict[int, Any] = {}
        self._results: dict[int, tuple] = {}
        self._num_claimed, self._num_taken = 0, 0
        self._exhausted, self._closed = False, False

    def claim(self):
        """The next (index, item) once there is room for its result; None at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed or self._exhausted or self._num_claimed - self._num_taken < self._prefetch
                )
            )
            if self._closed or self._exhausted:
                return None
            try:
                item = next(self._items)
            except StopIteration:
                self._exhausted = True
                self._changed.notify_all()
                return None
            index = self._num_claimed
            self._claimed[index], self._num_claimed = item, index + 1
            return index, item

    def put(self, index, item, value, error):
        """Hands in a result."""
        with self._changed:
            if not self._closed:
                self._results[index] = (item, value, error)
                self._changed.notify_all()

    def take(self, timeout_s):
        """The next (item, value) in order; None at the end."""
        index = self._num_taken
        with self._changed:
            ready = self._changed.wait_for(
                lambda: index in self._results or (self._exhausted and index == self._num_claimed), timeout_s
            )
            if not ready:
                item = self._claimed.get(index, "not begun")
                raise ReaderError(
                    f"no result for item {item!r} within {timeout_s:g} s: a reader is stuck or too slow"
                )
            if index not in self._results:
                return None
            item, value, error = self._results.pop(index)
            del self._claimed[index]
            self._num_taken += 1
            self._changed.notify_all()
        if error is not None:
            error.add_note(f"while reading item {item!r}")
            raise error
        return item, value

    def close(self):
        """Lets the readers end and drops what they made."""
        with self._changed:
            self._closed = True
            self._results.clear()
            self._changed.notify_all()
