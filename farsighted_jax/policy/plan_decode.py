"""Decodes a latent plan code by code on a cache: greedy, sampled, or the best of a beam."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.rng import sample_keys, step_key
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.model import Policy
from farsighted_jax.policy.outputs import PolicyCache


def greedy_plan(policy: Policy, params: Any, cache: PolicyCache):
    """The likeliest code at every step.

    Args:
      policy: the model.
      params: its parameters.
      cache: of all groups before the plan.

    Returns:
      code_BtZ: int32[B, t, Z]; on a tie the lowest code wins.
      log_prob_B: float32[B] nats, of the whole plan given what is before it.
      cache: with the plan.

    Raises:
      PolicyError: a plan out of turn, or not in the layout.
    """
    return _decoded(policy, params, cache, lambda logit_BV, _: jnp.argmax(logit_BV, axis=-1))


def sampled_plan(
    policy: Policy, params: Any, cache: PolicyCache, key, temperature: float = 1.0, top_k: int = 0
):
    """A random plan.

    Args:
      policy: see `greedy_plan`.
      params: see `greedy_plan`.
      cache: see `greedy_plan`.
      key: one key; what a sample draws depends on it and on its place in the batch
        alone, not on the batch's size.
      temperature: above 0, may be traced; 1 draws from the policy itself, towards 0 the plan is greedy.
      top_k: draw among that many likeliest codes; 0: among all.

    Returns:
      See `greedy_plan`; the log probability is that under the policy itself,
      whatever the temperature and `top_k`, so that plans can be compared.

    Raises:
      PolicyError: see `greedy_plan`; a `top_k` outside 0..V.
    """
    if not 0 <= top_k <= policy.codebook_size:
        raise PolicyError(f"top_k must lie within 0..{policy.codebook_size}, found {top_k}")
    key_B = sample_keys(key, jnp.arange(_batch_size(cache)))

    def draw(logit_BV, index):
        if top_k:
            least_B1 = jax.lax.top_k(logit_BV, top_k)[0][:, -1:]
            logit_BV = jnp.where(logit_BV >= least_B1, logit_BV, -jnp.inf)
        drawn_by = jax.vmap(step_key, in_axes=(0, None))(key_B, index)
        return jax.vmap(jax.random.categorical)(drawn_by, logit_BV / temperature)

    return _decoded(policy, params, cache, draw)


def beam_plan(policy: Policy, params: Any, cache: PolicyCache, width: int = 4):
    """The likeliest plan that a beam search finds.

    Args:
      policy: see `greedy_plan`.
      params: see `greedy_plan`.
      cache: see `greedy_plan`.
      width: plans a sample that are pursued at a time; 1 is greedy, V ** (n - 1) finds the likeliest of all.

    Returns:
      See `greedy_plan`.

    Raises:
      PolicyError: see `greedy_plan`; a width below 1.
    """
    if width < 1:
        raise PolicyError(f"the width of a beam must be >= 1, found {width}")
    B, layout = _batch_size(cache), policy.layout
    variables, beams = {"params": params}, _repeated(cache, width)

    def step(state, index):
        plan, code_BWn, log_prob_BW = state
        # Not read at index 0.
        code_BW = jnp.take(code_BWn, jnp.maximum(index - 1, 0), axis=-1)
        logit_SV, plan = policy.apply(variables, beams, plan, code_BW.reshape(-1), index, method="plan_step")
        total_BWV = log_prob_BW[..., None] + jax.nn.log_softmax(logit_SV).reshape(B, width, -1)
        log_prob_BW, chosen_BW = jax.lax.top_k(total_BWV.reshape(B, -1), width)
        parent_BW, code_BW = jnp.divmod(chosen_BW, policy.codebook_size)
        code_BWn = jnp.take_along_axis(code_BWn, parent_BW[..., None], axis=1).at[..., index].set(code_BW)
        row_S = (parent_BW + width * jnp.arange(B)[:, None]).reshape(-1)
        plan = jax.tree.map(lambda kept: kept[:, row_S], plan)
        return (plan, code_BWn, log_prob_BW), None

    # All beams begin alike: only the first counts, until others have branched off.
    alone_BW = jnp.broadcast_to(jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf), (B, width))
    nothing_BWn = jnp.zeros((B, width, layout.num_codes), jnp.int32)
    empty = policy.apply(variables, beams, method="empty_plan")
    start = (empty, nothing_BWn, alone_BW)
    (_, code_BWn, log_prob_BW), _ = jax.lax.scan(step, start, jnp.arange(layout.num_codes))
    code_BtZ = code_BWn[:, 0].reshape(B, layout.transitions, layout.slots)
    cache, _ = policy.apply(variables, cache, code_BtZ, method="extend_plan")
    return code_BtZ, log_prob_BW[:, 0], cache


# The first three arguments are the same.
DECODERS: dict[str, Callable] = {"greedy": greedy_plan, "sampled": sampled_plan, "beam": beam_plan}


def decode_plan(policy: Policy, params: Any, cache: PolicyCache, decoder: str = "greedy", **options: Any):
    """Decodes by the name of a decoder; `options` are its further arguments, see `greedy_plan`.

    Raises:
      PolicyError: an unknown decoder, and see there.
    """
    if decoder not in DECODERS:
        raise PolicyError(f"plan decoder {decoder!r} is none of {sorted(DECODERS)}")
    return DECODERS[decoder](policy, params, cache, **options)


def _decoded(policy, params, cache, choose):
    """One plan a sample; `choose` maps logits float32[B, V] and the step to codes int[B]."""
    B, layout = _batch_size(cache), policy.layout
    variables = {"params": params}

    def step(state, index):
        plan, code_B = state
        logit_BV, plan = policy.apply(variables, cache, plan, code_B, index, method="plan_step")
        code_B = choose(logit_BV, index).astype(jnp.int32)
        log_prob_BV = jax.nn.log_softmax(logit_BV)
        return (plan, code_B), (code_B, jnp.take_along_axis(log_prob_BV, code_B[:, None], axis=-1)[:, 0])

    empty = policy.apply(variables, cache, method="empty_plan")
    # One step more than there are codes: the actions see the last code as well. What it chooses is dropped.
    steps = jnp.arange(layout.num_codes + 1)
    (plan, _), (code_SB, log_prob_SB) = jax.lax.scan(step, (empty, jnp.zeros(B, jnp.int32)), steps)
    code_BtZ = code_SB[:-1].T.reshape(B, layout.transitions, layout.slots)
    cache = policy.apply(variables, cache, plan, method="with_plan")
    return code_BtZ, log_prob_SB[:-1].sum(axis=0), cache


def _batch_size(cache):
    return cache.groups.valid_BS.shape[0]


def _repeated(cache, width):
    """What a plan's steps read, every sample `width` times in a row."""
    groups = cache.groups
    seen = jax.tree.map(lambda kept: jnp.repeat(kept, width, axis=1), groups.seen)
    return PolicyCache(groups.replace(seen=seen, valid_BS=jnp.repeat(groups.valid_BS, width, axis=0)))
