"""The queue: bounded, with deadlines, batches of few sizes, everyone gets their own answer."""

import asyncio
import contextlib
import threading

import numpy as np
import pytest

from farsighted_jax.serving.batcher import Batcher, batch_sizes, stacked
from farsighted_jax.serving.errors import DeadlineExceeded, NotFinite, Overloaded


@contextlib.asynccontextmanager
async def answering(batcher):
    task = asyncio.create_task(batcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class Gate:
    """Answers when it is opened."""

    def __init__(self):
        self.open, self.sizes, self.threads = threading.Event(), [], set()

    def __call__(self, requests):
        self.open.wait(10)
        self.sizes.append(len(requests))
        self.threads.add(threading.get_ident())
        return [NotFinite(str(r)) if r < 0 else r * 10 for r in requests]


def test_sizes():
    assert [batch_sizes(n) for n in (1, 2, 3, 8)] == [(1,), (1, 2), (1, 2, 3), (1, 2, 4, 8)]
    rows = [{"a": np.full((1, 2), i)} for i in range(3)]
    assert stacked(rows, (1, 2, 4))["a"][:, 0].tolist() == [0, 1, 2, 2]
    assert stacked(rows[:1], (1, 2, 4))["a"].shape == (1, 2)


def test_f5_everyone_gets_their_own_answer_from_one_thread():
    async def talk():
        gate = Gate()
        gate.open.set()
        batcher = Batcher(gate, 8)
        async with answering(batcher):
            answers = await asyncio.gather(*(batcher.ask(r) for r in range(64)))
        assert answers == [10 * r for r in range(64)]
        assert len(gate.threads) == 1 and max(gate.sizes) == 8 and sum(gate.sizes) == 64

    asyncio.run(talk())


def test_f5_who_finds_the_queue_full_is_told_at_once():
    async def talk():
        gate = Gate()
        batcher = Batcher(gate, 1, capacity=2)
        async with answering(batcher):
            first = asyncio.create_task(batcher.ask(1))
            while len(batcher) or first.done():
                await asyncio.sleep(0)
            await asyncio.sleep(0.01)
            others = [asyncio.create_task(batcher.ask(r)) for r in (2, 3)]
            await asyncio.sleep(0.01)
            with pytest.raises(Overloaded, match="2 requests wait, no more may; try again"):
                await batcher.ask(4)
            gate.open.set()
            assert await asyncio.gather(first, *others) == [10, 20, 30]

    asyncio.run(talk())


def test_a_deadline_ends_waiting_and_frees_the_place():
    async def talk():
        gate = Gate()
        batcher = Batcher(gate, 1, deadline_s=0.05)
        async with answering(batcher):
            late = await asyncio.gather(*(batcher.ask(r) for r in range(3)), return_exceptions=True)
            assert [type(error) for error in late] == [DeadlineExceeded] * 3 and not len(batcher)
            gate.open.set()
            assert await batcher.ask(5) == 50

    asyncio.run(talk())


def test_an_error_of_one_is_told_to_that_one_and_an_error_of_all_to_all():
    async def talk():
        gate = Gate()
        gate.open.set()
        batcher = Batcher(gate, 4)
        async with answering(batcher):
            found = await asyncio.gather(*(batcher.ask(r) for r in (1, -2, 3)), return_exceptions=True)
            assert found[::2] == [10, 30] and isinstance(found[1], NotFinite)
            broken = await asyncio.gather(*(batcher.ask("x") for _ in range(2)), return_exceptions=True)
            assert [type(error) for error in broken] == [TypeError, TypeError]
            assert await batcher.ask(6) == 60

    asyncio.run(talk())
