"""Samples action chunks: the flow solver around an action head. It never calls the backbone."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from farsighted_jax.core.rng import sample_keys
from farsighted_jax.policy.flow_matching import NUM_STEPS, draw_noise, inpainted, solver_named


def sample_actions(
    velocity_fn: Callable,
    key,
    shape: Sequence[int],
    valid_BJM,
    num_steps: int = NUM_STEPS,
    solver: str = "euler",
    known_BJM=None,
    weight_BJM=None,
):
    """Draws one action chunk a sample.

    Args:
      velocity_fn: (float32[B, J, M] point, float32[B] time) -> velocity; it closes
        over the condition, which is computed once, outside.
      key: one key: the noise of a sample depends on it and on its place in the batch alone, not on the
        batch's size; or key[B], one a sample; or None: the flow starts from zero.
      shape: (B, J, M).
      valid_BJM: bool[B, J, M] or what broadcasts to it, such as the dimensions of
        each sample's action space, bool[B, 1, M].
      num_steps: of the solver.
      solver: key of `flow_matching.SOLVERS`.
      known_BJM: float[B, J, M] actions of an earlier chunk, see `inpainted`, or None.
      weight_BJM: float[B, J, M] or what broadcasts to it, see `overlap_weights`.

    Returns:
      float32[B, J, M] normalised actions; exactly the known ones where the weight is 1, 0 where not valid.

    Raises:
      FlowError: an unknown solver, or less than one step.
    """
    solve = solver_named(solver)
    noise_BJM = jnp.where(valid_BJM, _start(key, *shape), 0.0)

    def valid_velocity(x_BJM, time_B):
        return jnp.where(valid_BJM, velocity_fn(x_BJM, time_B), 0.0)

    if known_BJM is None:
        return solve(valid_velocity, noise_BJM, num_steps)
    weight_BJM = jnp.where(valid_BJM, weight_BJM, 0.0)
    action_BJM = solve(inpainted(valid_velocity, noise_BJM, known_BJM, weight_BJM), noise_BJM, num_steps)
    return jnp.where(weight_BJM >= 1, known_BJM.astype(jnp.float32), action_BJM)


def _start(key, num_samples, num_steps, width):
    if key is None:
        return jnp.zeros((num_samples, num_steps, width))
    key_B = sample_keys(key, jnp.arange(num_samples)) if key.ndim == 0 else key
    return draw_noise(key_B, num_steps, width)


def action_sampler(head, num_steps: int = NUM_STEPS, solver: str = "euler") -> Callable:
    """A jitted sampler of one action head; each shape compiles once.

    Args:
      head: an `ActionHead`, or any module with its arguments.
      num_steps: see `sample_actions`.
      solver: see `sample_actions`.

    Returns:
      (params, key, condition_BJE, embodiment_B, valid_BJM, **more) -> float32[B, J, M]. `more`
      are `context_BSE` and `context_valid_BS` of the head and the known actions of `sample_actions`.
      `valid_BJM` has its full shape.

    Raises:
      FlowError: an unknown solver.
    """
    solver_named(solver)

    @jax.jit
    def sample(
        params,
        key,
        condition_BJE,
        embodiment_B,
        valid_BJM,
        context_BSE=None,
        context_valid_BS=None,
        known_BJM=None,
        weight_BJM=None,
    ):
        def velocity(x_BJM, time_B):
            return head.apply(
                {"params": params},
                x_BJM,
                time_B,
                condition_BJE,
                embodiment_B,
                valid_BJM,
                context_BSE,
                context_valid_BS,
            )

        return sample_actions(
            velocity, key, valid_BJM.shape, valid_BJM, num_steps, solver, known_BJM, weight_BJM
        )

    return sample
