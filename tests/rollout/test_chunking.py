"""Which action is taken at a step: of the newest chunk, or a mean of all that speak of it."""

import numpy as np
import pytest

from farsighted_jax.rollout.chunking import DECAY, Chunking, Chunks
from farsighted_jax.rollout.environment import RolloutError

J, M = 5, 2


def chunk(number):
    """Action j of chunk n is n + j / 10, and its negative."""
    value_J = number + np.arange(J) / 10
    return np.stack([value_J, -value_J], axis=-1)


def taken(chunking, count):
    chunks = Chunks(chunking)
    return np.concatenate([chunks.add(chunk(number)) for number in range(count)])


def test_a_receding_horizon_takes_the_first_actions_of_every_chunk():
    out = taken(Chunking(2), 3)
    np.testing.assert_allclose(out[:, 0], [0, 0.1, 1, 1.1, 2, 2.1], rtol=1e-6)
    np.testing.assert_array_equal(out[:, 1], -out[:, 0])
    assert out.dtype == np.float32


@pytest.mark.parametrize("execute", [1, 2, J])
def test_an_ensemble_is_the_weighted_mean_of_all_chunks_that_speak_of_a_step(execute):
    out, most = taken(Chunking(execute, ensemble=True), 7), 0
    for step in range(len(out)):
        said = [chunk(n)[step - n * execute, 0] for n in range(7) if 0 <= step - n * execute < J]
        weight = [np.exp(-DECAY * i) for i in range(len(said))]
        assert out[step, 0] == pytest.approx(np.dot(said, weight) / sum(weight), rel=1e-6)
        most = max(most, len(said))
    assert most == -(-J // execute)


def test_chunks_that_agree_are_executed_as_they_are():
    chunks, same = Chunks(Chunking(1, ensemble=True)), np.full((J, M), 0.3, np.float32)
    np.testing.assert_allclose(np.concatenate([chunks.add(same) for _ in range(9)]), 0.3, rtol=1e-6)


def test_with_latency_the_old_chunk_is_executed_until_the_new_one_is_there():
    # Asked at 0, 2, 4; only for the first chunk the robot waits.
    out = taken(Chunking(2, latency=1), 3)
    np.testing.assert_allclose(out[:, 0], [0, 0.1, 0.2, 1.1, 1.2, 2.1], rtol=1e-6)
    out = taken(Chunking(2, latency=2), 3)
    np.testing.assert_allclose(out[:, 0], [0, 0.1, 0.2, 0.3, 1.2, 1.3], rtol=1e-6)


def test_an_ensemble_waits_for_its_chunks_too():
    out, old, new = taken(Chunking(1, ensemble=True, latency=1), 2), 1.0, np.exp(-DECAY)
    np.testing.assert_allclose(out[:, 0], [0, 0.1], rtol=1e-6)
    out = taken(Chunking(1, ensemble=True, latency=1), 3)
    assert out[2, 0] == pytest.approx((0.2 * old + 1.1 * new) / (old + new), rel=1e-6)


@pytest.mark.parametrize("latency", [0, 1, 2])
def test_the_rest_of_the_newest_chunk_begins_with_what_is_executed_next(latency):
    chunks = Chunks(Chunking(2, latency=latency))
    assert chunks.rest() is None
    chunks.add(chunk(0))
    for number in (1, 2, 3):
        rest = chunks.rest()
        np.testing.assert_array_equal(rest, chunk(number - 1)[2:].astype(np.float32))
        np.testing.assert_array_equal(chunks.add(chunk(number))[:latency], rest[:latency])


def test_a_chunk_that_is_executed_whole_leaves_no_rest():
    chunks = Chunks(Chunking(J))
    chunks.add(chunk(0))
    assert chunks.rest().shape == (0, M)


@pytest.mark.parametrize(
    ("chunking", "told"),
    [
        (Chunking(3, latency=4), "a latency of 4 steps, expected 0 to execute = 3"),
        (Chunking(3, latency=3), "chunks of 5 actions, expected at least execute = 3 . latency = 3"),
        (Chunking(1, True, 0, True), "an ensemble is a mean of several"),
    ],
)
def test_what_cannot_be_executed_is_named(chunking, told):
    with pytest.raises(RolloutError, match=told):
        chunking.check(J)


def test_a_chunk_that_is_too_short_is_named():
    with pytest.raises(RolloutError, match="chunks of 5 actions, expected at least execute = 6"):
        Chunks(Chunking(6)).add(chunk(0))
