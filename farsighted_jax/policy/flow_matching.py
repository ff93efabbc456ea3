"""Flow matching on action chunks: path, target, time sampling and solvers.

The conventions, stated here and nowhere else. Flow time runs from 0, noise, to
1, data. The path between noise eps and action a is the straight line
x(t) = (1 - t) * eps + t * a, its velocity a - eps. Training times are
1 - Beta(1.5, 1), clipped to [0, 1]: more of them near the noise, where the
velocity has most to decide. Solvers start at time 0 and take steps of equal
length to time 1. What is not valid is zero everywhere.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

# Of the Beta distribution that a training time is subtracted from; its second parameter is 1.
BETA = 1.5

# Steps of a solver from noise to data.
NUM_STEPS = 10

# Clips the guidance of `inpainted`, as the paper does.
MAX_GUIDANCE = 5.0


class FlowError(ValueError):
    """A solver was asked for what does not exist; the message names what was found and expected."""


def draw_time(key_B):
    """Flow times to train at, one a sample.

    Drawn by inverting the distribution function of Beta(1.5, 1), x ** 1.5, which
    needs no rejection loop.

    Args:
      key_B: key[B] as `core.rng.sample_keys` gives them, so that a sample's time
        does not depend on how the batch is cut.

    Returns:
      float32[B] within [0, 1], mean 0.4.
    """
    uniform_B = jax.vmap(jax.random.uniform)(key_B)
    return jnp.clip(1.0 - uniform_B ** (1.0 / BETA), 0.0, 1.0)


def draw_noise(key_B, num_steps: int, width: int):
    """Standard normal noise, float32[B, J, M], one key a sample."""
    return jax.vmap(lambda key: jax.random.normal(key, (num_steps, width)))(key_B)


def path_point(noise_BJM, action_BJM, time_B):
    """Where the straight path stands at a time: exactly the noise at 0, exactly the action at 1.

    Args:
      noise_BJM: float[B, J, M].
      action_BJM: float[B, J, M].
      time_B: float[B] flow time.

    Returns:
      float32[B, J, M].
    """
    time_B11 = time_B.astype(jnp.float32)[:, None, None]
    return (1.0 - time_B11) * noise_BJM.astype(jnp.float32) + time_B11 * action_BJM.astype(jnp.float32)


def target_velocity(noise_BJM, action_BJM):
    """Velocity of the straight path, the same at all times; float32[B, J, M]."""
    return action_BJM.astype(jnp.float32) - noise_BJM.astype(jnp.float32)


def training_points(key_B, action_BJM, valid_BJM, num_draws: int):
    """Random points of each sample's path, and the velocity to learn at each; see `training_point`.

    A single point says little about a chunk, and the condition is computed once
    whatever their number (arXiv 2411.19650 takes 8).

    Returns:
      noisy_BKJM: float32[B, K, J, M] where K = `num_draws`.
      time_BK: float32[B, K].
      target_BKJM: float32[B, K, J, M].
    """
    key_BK = jax.vmap(lambda key: jax.random.split(key, num_draws))(key_B)
    return jax.vmap(training_point, in_axes=(1, None, None), out_axes=1)(key_BK, action_BJM, valid_BJM)


def training_point(key_B, action_BJM, valid_BJM):
    """One random point of each sample's path, and the velocity to learn there.

    Args:
      key_B: key[B], see `draw_time`.
      action_BJM: float[B, J, M] normalised action chunks; may hold anything where not valid.
      valid_BJM: bool[B, J, M].

    Returns:
      noisy_BJM: float32[B, J, M], 0 where not valid.
      time_B: float32[B].
      target_BJM: float32[B, J, M], 0 where not valid.
    """
    time_key_B, noise_key_B = jnp.moveaxis(jax.vmap(jax.random.split)(key_B), 1, 0)
    time_B = draw_time(time_key_B)
    noise_BJM = jnp.where(valid_BJM, draw_noise(noise_key_B, *action_BJM.shape[1:]), 0.0)
    action_BJM = jnp.where(valid_BJM, action_BJM, 0.0)
    return path_point(noise_BJM, action_BJM, time_B), time_B, target_velocity(noise_BJM, action_BJM)


def euler(velocity_fn: Callable, noise_BJM, num_steps: int = NUM_STEPS):
    """Integrates from noise to data with one velocity a step.

    Args:
      velocity_fn: (float32[B, J, M] point, float32[B] time) -> float[B, J, M]
        velocity; traced once, called at times 0, 1/n, ... (n-1)/n.
      noise_BJM: float32[B, J, M] the point at time 0.
      num_steps: n.

    Returns:
      float32[B, J, M] the point at time 1.
    """

    def step(index, x_BJM):
        return x_BJM + velocity_fn(x_BJM, _time(index, num_steps, x_BJM)) / num_steps

    return _integrated(step, noise_BJM, num_steps)


def heun(velocity_fn: Callable, noise_BJM, num_steps: int = NUM_STEPS):
    """As `euler`, with the mean of the velocities at both ends of each step: two calls a step."""

    def step(index, x_BJM):
        first_BJM = velocity_fn(x_BJM, _time(index, num_steps, x_BJM))
        ahead_BJM = x_BJM + first_BJM / num_steps
        second_BJM = velocity_fn(ahead_BJM, _time(index + 1, num_steps, x_BJM))
        return x_BJM + (first_BJM + second_BJM) / (2 * num_steps)

    return _integrated(step, noise_BJM, num_steps)


SOLVERS = {"euler": euler, "heun": heun}


def solver_named(name: str) -> Callable:
    """The solver of that name; FlowError names those that exist."""
    if name not in SOLVERS:
        raise FlowError(f"flow solver {name!r} is none of {sorted(SOLVERS)}")
    return SOLVERS[name]


def _time(index, num_steps, x_BJM):
    # A ratio of whole numbers: sums of 1/n would not end at exactly 1.
    return jnp.full((x_BJM.shape[0],), index, jnp.float32) / num_steps


def _integrated(step, noise_BJM, num_steps):
    if num_steps < 1:
        raise FlowError(f"a flow solver takes at least 1 step from noise to data, found {num_steps}")

    # A velocity of lower precision must not lower that of the point.
    def body(index, x_BJM):
        return step(index, x_BJM).astype(jnp.float32)

    return jax.lax.fori_loop(0, num_steps, body, noise_BJM.astype(jnp.float32))


def overlap_weights(num_committed_B, num_known_B, num_steps: int):
    """How much each step of a chunk is to agree with an earlier chunk (arXiv 2506.07339, eq. 5).

    Args:
      num_committed_B: int32[B] first steps that will be executed as they are; traced, so that another number
        compiles nothing.
      num_known_B: int32[B] steps of which the earlier chunk speaks, at least as many.
      num_steps: J.

    Returns:
      float32[B, J, 1]: 1 where committed, falling to 0 at the end of what is known.
    """
    step_1J = jnp.arange(num_steps)[None]
    committed_B1, known_B1 = num_committed_B[:, None], num_known_B[:, None]
    # At least 1: the fraction is read where it lies within (0, 1) only.
    left_BJ = (known_B1 - step_1J) / jnp.maximum(known_B1 - committed_B1 + 1, 1)
    soft_BJ = left_BJ * jnp.expm1(left_BJ) / jnp.expm1(1.0)
    weight_BJ = jnp.where(step_1J < committed_B1, 1.0, jnp.where(step_1J < known_B1, soft_BJ, 0.0))
    return weight_BJ[..., None].astype(jnp.float32)


def guidance(time_B, most: float = MAX_GUIDANCE):
    """Strength of the pull towards what is known, float32[B]: (1 - t) / (t r^2), clipped (eq. 2 to 4)."""
    ratio_B = (time_B**2 + (1 - time_B) ** 2) / jnp.maximum(time_B * (1 - time_B), 1e-6)
    return jnp.minimum(ratio_B, most)


def inpainted(velocity_fn: Callable, noise_BJM, known_BJM, weight_BJM):
    """A velocity that completes a chunk of which a part is known (real-time chunking, arXiv 2506.07339).

    Where the weight is 1 the chunk is carried along the straight path from its own noise to what is known,
    as in training. The rest flows along and is pulled to where the chunk that it foresees agrees with what is
    known, by the weights. Weights of 0 alone change nothing.

    Args:
      velocity_fn: see `euler`; differentiated with respect to the point.
      noise_BJM: float32[B, J, M] the solver's start.
      known_BJM: float[B, J, M] normalised actions; may hold anything where the weight is 0.
      weight_BJM: float[B, J, M] within [0, 1] or what broadcasts to it, see `overlap_weights`.

    Returns:
      A function like `velocity_fn`.
    """
    known_BJM = jnp.where(weight_BJM > 0, known_BJM, 0.0)
    frozen_BJM, fixed_BJM = weight_BJM >= 1, target_velocity(noise_BJM, known_BJM)

    def velocity(x_BJM, time_B):
        time_B11 = time_B[:, None, None]

        def foreseen(x_BJM):
            velocity_BJM = velocity_fn(x_BJM, time_B).astype(jnp.float32)
            return x_BJM + (1 - time_B11) * velocity_BJM, velocity_BJM

        end_BJM, pull, velocity_BJM = jax.vjp(foreseen, x_BJM, has_aux=True)
        (pulled_BJM,) = pull(weight_BJM * (known_BJM - end_BJM))
        return jnp.where(frozen_BJM, fixed_BJM, velocity_BJM + guidance(time_B11) * pulled_BJM)

    return velocity
