"""Path, time sampling and solvers of flow matching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.core.rng import sample_keys
from farsighted_jax.policy import flow_matching as flow

B, J, M = 3, 4, 2


def normal(seed):
    return np.random.default_rng(seed).normal(size=(B, J, M)).astype(np.float32)


@pytest.fixture(scope="module")
def keys():
    return sample_keys(jax.random.key(0), jnp.arange(20_000))


def test_the_path_hits_both_ends_and_its_velocity_is_its_slope():
    noise, action = normal(0), normal(1)
    ends = [flow.path_point(noise, action, np.full(B, t, np.float32)) for t in (0, 1)]
    np.testing.assert_array_equal(ends[0], noise)
    np.testing.assert_array_equal(ends[1], action)
    time = np.array([0.1, 0.5, 0.8], np.float32)
    _, slope = jax.jvp(lambda t: flow.path_point(noise, action, t), (time,), (np.ones(B, np.float32),))
    np.testing.assert_allclose(slope, flow.target_velocity(noise, action), rtol=1e-6)


def test_times_are_one_minus_beta(keys):
    time = np.asarray(flow.draw_time(keys), np.float64)
    assert 0 <= time.min() < 0.01 and 0.97 < time.max() <= 1
    # Of Beta(a, b): mean a / (a + b), variance ab / ((a + b)^2 (a + b + 1)).
    variance = 1.5 / (2.5**2 * 3.5)
    assert abs(time.mean() - 0.4) < 5 * np.sqrt(variance / len(time))
    assert time.var() == pytest.approx(variance, rel=0.03)
    for share in (0.1, 0.5, 0.9):
        assert (1 - time <= share ** (2 / 3)).mean() == pytest.approx(share, abs=0.02)


def test_a_sample_has_its_own_time_and_noise_however_the_batch_is_cut(keys):
    action, valid = np.zeros((6, J, M), np.float32), np.ones((6, J, M), bool)
    whole = flow.training_point(keys[:6], action, valid)
    part = flow.training_point(keys[4:6], action[4:], valid[4:])
    for all_six, last_two in zip(whole, part, strict=True):
        np.testing.assert_array_equal(all_six[4:], last_two)
    assert len(np.unique(whole[1])) == 6
    assert len(np.unique(whole[0])) == whole[0].size


def test_the_points_of_a_sample_are_drawn_apart_and_however_the_batch_is_cut(keys):
    action, valid = normal(1), np.random.default_rng(5).random((B, J, M)) < 0.6
    whole = noisy, time, target = flow.training_points(keys[:B], action, valid, 3)
    assert noisy.shape == target.shape == (B, 3, J, M) and len(np.unique(time)) == time.size == 3 * B
    left = np.asarray(1 - time)[..., None, None]
    ends = np.moveaxis(noisy + left * target, 1, 0)
    np.testing.assert_allclose(ends, np.broadcast_to(np.where(valid, action, 0), ends.shape), atol=1e-6)
    for every, last in zip(whole, flow.training_points(keys[1:B], action[1:], valid[1:], 3), strict=True):
        np.testing.assert_array_equal(every[1:], last)


def test_a_training_point_lies_on_the_path_and_holds_nothing_invalid(keys):
    action, valid = normal(1), np.random.default_rng(5).random((B, J, M)) < 0.6
    noisy, time, target = flow.training_point(keys[:B], action, valid)
    left = np.asarray(1 - time)[:, None, None]
    # From a point on the path the rest of the way leads to the action.
    np.testing.assert_allclose((noisy + left * target)[valid], action[valid], atol=1e-6)
    assert not np.any(noisy[~valid]) and not np.any(target[~valid])
    spoiled = flow.training_point(keys[:B], np.where(valid, action, np.nan), valid)
    for before, after in zip((noisy, time, target), spoiled, strict=True):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(("solver", "num_steps"), [("euler", 1), ("euler", 10), ("heun", 1), ("heun", 10)])
def test_the_velocity_of_the_path_leads_to_the_data(solver, num_steps):
    noise, action = normal(0), normal(1)
    out = flow.SOLVERS[solver](lambda x, t: flow.target_velocity(noise, action), noise, num_steps)
    np.testing.assert_allclose(out, action, atol=1e-5)
    # The conditional field (a - x) / (1 - t): the same path, without knowing the noise.
    if solver == "euler":
        out = flow.euler(lambda x, t: (action - x) / (1 - t)[:, None, None], noise, num_steps)
        np.testing.assert_allclose(out, action, atol=1e-5)


def test_heun_is_of_second_order_and_euler_of_first():
    start = np.ones((1, 1, 1), np.float32)

    def error(solver, num_steps):
        # dx/dt = 2 t x ends at e.
        out = solver(lambda x, t: 2 * t[:, None, None] * x, start, num_steps)
        return abs(float(out[0, 0, 0]) - np.e)

    assert error(flow.euler, 5) / error(flow.euler, 10) == pytest.approx(2, rel=0.3)
    assert error(flow.heun, 5) / error(flow.heun, 10) == pytest.approx(4, rel=0.3)


def times_asked_for(solver, num_steps):
    asked = []

    def velocity(x, t):
        jax.debug.callback(lambda t: asked.append(float(t[0])), t, ordered=True)
        return jnp.zeros_like(x)

    solver(velocity, normal(0), num_steps).block_until_ready()
    jax.effects_barrier()
    return asked


@pytest.mark.parametrize("num_steps", [1, 3, 10])
def test_the_number_of_steps_is_honoured_and_time_stays_in_range(num_steps):
    np.testing.assert_allclose(
        times_asked_for(flow.euler, num_steps), np.arange(num_steps) / num_steps, atol=1e-7
    )
    heun = times_asked_for(flow.heun, num_steps)
    np.testing.assert_allclose(heun[0::2], np.arange(num_steps) / num_steps, atol=1e-7)
    np.testing.assert_allclose(heun[1::2], np.arange(1, num_steps + 1) / num_steps, atol=1e-7)
    assert heun[-1] == 1.0


def test_what_does_not_exist_is_an_error_that_names_it():
    with pytest.raises(flow.FlowError, match="at least 1 step.*found 0"):
        flow.euler(lambda x, t: x, normal(0), 0)
    with pytest.raises(flow.FlowError, match=r"'rk4' is none of \['euler', 'heun'\]"):
        flow.solver_named("rk4")


def test_a_velocity_of_low_precision_leaves_the_point_in_float32():
    out = flow.heun(lambda x, t: jnp.ones_like(x, jnp.bfloat16), normal(0), 3)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(out, normal(0) + 1, atol=2e-2)


def test_the_weights_of_an_overlap_are_the_published_ones():
    # H = 8, s = 2, d = 3: c_i = (H - s - i) / (H - s - d + 1), weight c (e^c - 1) / (e - 1).
    c = np.array([3, 2, 1]) / 4
    expected = [1, 1, 1, *c * (np.exp(c) - 1) / (np.e - 1), 0, 0]
    weight = flow.overlap_weights(np.array([3, 0, 0, 8, 2]), np.array([6, 0, 8, 8, 2]), 8)[..., 0]
    np.testing.assert_allclose(weight[0], expected, rtol=1e-6)
    np.testing.assert_array_equal(weight[1], 0)
    assert (np.diff(weight[2]) < 0).all() and 0 < weight[2, -1] and weight[2, 0] < 1
    np.testing.assert_array_equal(weight[3], 1)
    np.testing.assert_array_equal(weight[4], [1, 1, 0, 0, 0, 0, 0, 0])


def test_guidance_is_clipped_at_both_ends():
    # (1 - t) / (t r^2) with r^2 = (1 - t)^2 / (t^2 + (1 - t)^2).
    time = np.array([0.0, 0.01, 0.25, 0.5, 0.75, 1.0], np.float32)
    np.testing.assert_allclose(flow.guidance(time), [5, 5, 0.625 / 0.1875, 2, 0.625 / 0.1875, 5], rtol=1e-5)


@pytest.mark.parametrize("solver", flow.SOLVERS)
def test_frozen_steps_follow_their_path_and_the_rest_sees_them(solver):
    noise, known = normal(0), normal(1)
    weight = flow.overlap_weights(np.array([0, 2, J]), np.array([0, 3, J]), J)
    points = []

    def velocity(x, t):
        jax.debug.callback(lambda x, t: points.append((x, t)), x, t, ordered=True)
        return jnp.broadcast_to(x.mean(axis=1, keepdims=True), x.shape)

    spoiled = np.where(weight > 0, known, np.nan)
    out = flow.SOLVERS[solver](flow.inpainted(velocity, noise, spoiled, weight), noise, 5)
    jax.effects_barrier()
    frozen = np.broadcast_to(weight == 1, noise.shape)
    np.testing.assert_allclose(out[frozen], known[frozen], atol=1e-5)
    assert len(points) == {"euler": 5, "heun": 10}[solver], "the velocity is computed once a time"
    for x, t in points:
        np.testing.assert_allclose(x[frozen], flow.path_point(noise, known, t)[frozen], atol=1e-5)
    free = flow.SOLVERS[solver](velocity, noise, 5)
    np.testing.assert_allclose(out[0], free[0], atol=1e-6)
    assert np.abs(out - free)[1, 2:].max() > 1e-2


def gaussian_velocity(covariance):
    """The exact velocity where chunks float[J, 1] are normal with mean 0."""
    identity = np.eye(len(covariance), dtype=np.float32)

    def velocity(x, t):
        t = t[0]
        mean = t * covariance @ jnp.linalg.inv(t**2 * covariance + (1 - t) ** 2 * identity)
        return (jnp.einsum("ij,bjm->bim", mean, x) - x) / (1 - t)

    return velocity


def test_a_completed_chunk_is_what_the_distribution_says_given_the_committed_steps():
    steps, d = np.arange(6), 2
    covariance = np.exp(-(np.subtract.outer(steps, steps) ** 2) / 8) + 1e-3 * np.eye(6)
    noise = np.random.default_rng(0).normal(size=(512, 6, 1)).astype(np.float32)
    known = np.full(noise.shape, np.nan, np.float32)
    known[:, :d] = np.array([1.2, 1.0])[:, None]
    gain = covariance[d:, :d] @ np.linalg.inv(covariance[:d, :d])
    mean = gain @ known[0, :d, 0]
    spread = np.sqrt(np.diag(covariance[d:, d:] - gain @ covariance[:d, d:]))
    velocity = gaussian_velocity(covariance.astype(np.float32))
    weight = flow.overlap_weights(np.full(512, d), np.full(512, d), 6)
    out = np.asarray(flow.euler(flow.inpainted(velocity, noise, known, weight), noise))[:, d:, 0]
    np.testing.assert_allclose(out.mean(0), mean, atol=0.2)
    np.testing.assert_allclose(out.std(0), spread, atol=0.15)
    plain = np.asarray(flow.euler(velocity, noise))[:, d:, 0]
    assert np.abs(plain.mean(0) - mean).max() > 0.6 and np.abs(plain.std(0) - spread).max() > 0.5
