import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from farsighted_jax.checkpoint.digest import content_digests
from farsighted_jax.core.tree import flat_paths
from farsighted_jax.train import state as train_state
from farsighted_jax.train.optimizer import make_optimizer
from farsighted_jax.train.step import make_train_step, micro_batches

STREAM = toy_task.ToyStream(bad_steps=(2, 3, 4, 5))


@functools.cache
def _setup(accumulation=1, ema_decay=0.0, freeze=(), max_bad_steps=3):
    config = toy_task.toy_config(
        optimizer__accumulation=accumulation, optimizer__ema_decay=ema_decay, optimizer__freeze=freeze
    )
    task, optimizer = toy_task.ToyTask(), make_optimizer(config.optimizer, config.total_steps)
    initialize = train_state.initializer(task, optimizer, STREAM.batch(0), config)
    step = make_train_step(
        task, optimizer, accumulation=accumulation, ema_decay=ema_decay, max_bad_steps=max_bad_steps
    )
    return jax.jit(initialize)(jax.random.key(0)), jax.jit(step)


def _after(steps, **settings):
    state, step = _setup(**settings)
    for index in steps:
        state, metrics = step(state, STREAM.batch(index))
    return state, metrics


def test_micro_batches_take_every_row_once_in_strides():
    cut = micro_batches({"x": jnp.arange(24).reshape(12, 2)}, 3)["x"]
    assert cut.shape == (3, 4, 2)
    np.testing.assert_array_equal(cut[1, :, 0] // 2, [1, 4, 7, 10])
    with pytest.raises(ValueError, match="12 rows are not divisible by accumulation 5"):
        micro_batches({"x": jnp.zeros((12, 2))}, 5)


@pytest.mark.parametrize("accumulation", [2, 4])
def test_accumulation_equals_the_big_batch(accumulation):
    state, metrics = _after([0, 1], accumulation=1)
    cut_state, cut_metrics = _after([0, 1], accumulation=accumulation)
    # Adam divides by the root of the second moment, so compare that too, not the parameters alone.
    for part in ("params", "model_state", "opt_state"):
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
            getattr(cut_state, part), getattr(state, part),
        )  # fmt: skip
    for name in metrics:
        np.testing.assert_allclose(cut_metrics[name], metrics[name], rtol=1e-6, atol=1e-6)
    assert float(metrics["error"][1]) == 13


def test_a_step_that_is_not_finite_changes_no_bit_and_is_counted():
    before, step = _setup(ema_decay=0.9)
    after, metrics = step(before, STREAM.batch(2))
    for part in ("params", "opt_state", "model_state", "ema"):
        assert content_digests(getattr(after, part)) == content_digests(getattr(before, part))
    assert int(after.step) == 1
    assert {k: int(v) for k, v in after.skipped.items()} == {"total": 1, "in_a_row": 1, "last": 0}
    assert not np.isfinite(metrics["loss"][0]) and float(metrics["skipped_steps"][0]) == 1

    healed, _ = step(after, STREAM.batch(0))
    assert {k: int(v) for k, v in healed.skipped.items()} == {"total": 1, "in_a_row": 0, "last": 0}
    assert content_digests(healed.params) != content_digests(before.params)


def test_after_too_many_bad_steps_nothing_is_applied_any_more():
    good, _ = _after([0, 1])
    stopped, metrics = _after([0, 1, 2, 3, 4, 0, 1])
    assert content_digests(stopped.params) == content_digests(good.params)
    assert float(metrics["skipped_in_a_row"][0]) == 5 and int(stopped.step) == 7


def test_frozen_parameters_have_no_optimizer_state_and_do_not_move():
    start, _ = _setup(freeze=("^encoder/",))
    state, _ = _after([0, 1], freeze=("^encoder/",))
    assert set(state.params) == {"decoder"} and set(state.frozen) == {"encoder"}
    assert content_digests(state.frozen) == content_digests(start.frozen)
    assert content_digests(state.params) != content_digests(start.params)
    assert not [path for path in flat_paths(state.opt_state) if "encoder" in path]


def test_a_freeze_pattern_without_a_match_is_an_error():
    with pytest.raises(ValueError, match="'encodre' matches no parameter"):
        _setup(freeze=("encodre",))


def test_average_follows_the_parameters():
    first, step = _setup(ema_decay=0.9)
    second, _ = step(first, STREAM.batch(0))
    expected = jax.tree.map(lambda a, b: 0.9 * a + 0.1 * b, first.ema, second.params)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), second.ema, expected)


def test_learning_rate_follows_the_step_even_after_skipped_ones():
    _, metrics = _after([0, 1, 2, 3])
    optimizer = make_optimizer(toy_task.toy_config().optimizer, 20)
    assert float(metrics["learning_rate"][0]) == pytest.approx(float(optimizer.learning_rate(3)))
