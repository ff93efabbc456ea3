"""Requests of many clients answered together: bounded queue, deadlines, batches of few sizes, one thread."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from farsighted_jax.serving.errors import DeadlineExceeded, Overloaded


def batch_sizes(largest: int) -> tuple[int, ...]:
    """Powers of two below `largest`, and itself: the sizes that a policy is compiled for."""
    return (*(2**power for power in range((largest - 1).bit_length())), largest)


def stacked(rows: Sequence[Mapping[str, np.ndarray]], sizes: Sequence[int]) -> dict[str, np.ndarray]:
    """Batches of one row each as one batch of the smallest size that holds them; the last row is repeated."""
    size = min(size for size in sizes if size >= len(rows))
    rows = [*rows, *[rows[-1]] * (size - len(rows))]
    return {name: np.concatenate([row[name] for row in rows]) for name in rows[0]}


class Batcher:
    """Collects requests that wait while the policy is busy, and has them answered together."""

    def __init__(
        self,
        answer: Callable[[list[Any]], Sequence[Any]],
        size: int,
        *,
        capacity: int = 128,
        deadline_s: float = 60.0,
    ):
        """Nothing is answered before `run`.

        Args:
          answer: the answers to at most `size` requests, of which an exception is raised where it was asked;
            called in a thread, once at a time.
          size: see `answer`.
          capacity: requests that wait at most.
          deadline_s: seconds that an answer may take.
        """
        self._answer, self._size = answer, size
        self._capacity, self._deadline_s = capacity, deadline_s
        self._waiting: dict[asyncio.Future, Any] = {}
        self._arrived = asyncio.Event()

    def __len__(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    async def ask(self, request: Any) -> Any:
        """The answer to one request; one that is cancelled gives its place free.

        Raises:
          Overloaded: too many wait.
          DeadlineExceeded: it took too long.
          Exception: what answering raised.
        """
        if len(self._waiting) >= self._capacity:
            raise Overloaded(f"{len(self._waiting)} requests wait, no more may; try again")
        future = asyncio.get_running_loop().create_future()
        self._waiting[future] = request
        self._arrived.set()
        try:
            async with asyncio.timeout(self._deadline_s):
                return await future
        except TimeoutError:
            raise DeadlineExceeded(f"no answer within {self._deadline_s:g} s; try again") from None
        finally:
            self._waiting.pop(future, None)

    async def run(self) -> None:
        """Answers, until it is cancelled."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, "inference") as thread:
            while True:
                await self._arrived.wait()
                self._arrived.clear()
                while self._waiting:
                    futures = list(itertools.islice(self._waiting, self._size))
                    requests = [self._waiting.pop(future) for future in futures]
                    try:
                        answers = await loop.run_in_executor(thread, self._answer, requests)
                    except Exception as error:
                        answers = [error] * len(requests)
                    for future, answer in zip(futures, answers, strict=True):
                        _settle(future, answer)


def _settle(future, answer):
    if future.done():
        return
    if isinstance(answer, Exception):
        future.set_exception(answer)
    else:
        future.set_result(answer)
