"""Vector quantisation as pure functions: choose codes, gather statistics, update the codebook.

The codebook of the EMA quantiser is model state, not a parameter. A step gathers
`CodebookUpdates` from each of its micro-batches with the codebook it started
with, merges them and applies them once. Sums over the batch are global sums:
under `jit` over a mesh the arrays are global arrays. A masked vector (a missing
frame) enters no sum, no candidate and no usage figure.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp


class CodebookUpdates(NamedTuple):
    """What a batch tells the codebook; `merged_updates` combines two of them.

    A codebook that does not learn from these has the counts alone, the rest is None.

    Attributes:
      count_tZV: float32[..., Z, V] vectors of each slot, of each transition if there
        are several, that chose each code.
      sum_VU: float32[V, U] their sum.
      candidate_VU: float32[V, U] vectors of the batch, drawn at random, for restarts.
      priority_V: float32[V] random rank of each candidate, descending; -1 where there is none.
    """

    count_tZV: jax.Array
    sum_VU: jax.Array | None = None
    candidate_VU: jax.Array | None = None
    priority_V: jax.Array | None = None

    @property
    def count_V(self):
        """float32[V] vectors that chose each code, wherever they stood."""
        return self.count_tZV.reshape(-1, self.count_tZV.shape[-1]).sum(0)


def unit_rows(x_BU):
    """Scales the last axis to length 1, in float32; what "cosine" distance compares."""
    x_BU = x_BU.astype(jnp.float32)
    return x_BU / jnp.maximum(jnp.linalg.norm(x_BU, axis=-1, keepdims=True), 1e-6)


def nearest_code(z_BZU, codebook_VU):
    """Finds the closest codebook row for every latent slot (eq. 2).

    Distances are computed in float32 whatever the input dtype is, so that the
    choice of code does not depend on the mixed-precision setting.

    Args:
      z_BZU: float[..., Z, U] encoder output, one vector per latent slot.
      codebook_VU: float[V, U] codebook. No gradient flows into it from here.

    Returns:
      code_BZ: int32[..., Z] row index; on a tie the lowest index wins.
      quantized_BZU: float[..., Z, U] the chosen rows, in the dtype of `z_BZU`.
    """
    codebook_VU = jax.lax.stop_gradient(codebook_VU.astype(jnp.float32))
    z32_BZU = jax.lax.stop_gradient(z_BZU.astype(jnp.float32))
    product_BZV = jnp.einsum("...ZU,VU->...ZV", z32_BZU, codebook_VU, precision="highest")
    distance_BZV = jnp.sum(codebook_VU**2, axis=-1) - 2 * product_BZV
    code_BZ = jnp.argmin(distance_BZV, axis=-1).astype(jnp.int32)
    return code_BZ, codebook_VU[code_BZ].astype(z_BZU.dtype)


def straight_through(z_BZU, quantized_BZU):
    """The quantised value whose gradient goes to `z_BZU` unchanged."""
    return z_BZU + jax.lax.stop_gradient(quantized_BZU - z_BZU)


def initial_codebook(key, num_codes: int, code_width: int):
    """State of an EMA codebook before its first batch, which replaces every row.

    Returns:
      dict of float32 arrays: codebook[V, U], count[V], sum[V, U], and seen[],
      the number of updates applied.
    """
    codebook_VU = jax.random.normal(key, (num_codes, code_width)) / code_width**0.5
    return {
        "codebook": codebook_VU,
        "count": jnp.ones(num_codes),
        "sum": codebook_VU,
        "seen": jnp.zeros(()),
    }


def chosen_codes(code_BtZ, valid_Bt, num_codes: int):
    """One-hot codes, float32[B, ..., Z, V], 0 where the frame is missing; see `codebook_updates`."""
    return jax.nn.one_hot(code_BtZ, num_codes) * valid_Bt[..., None, None]


def codebook_updates(z_BtZU, code_BtZ, valid_Bt, priority_BtZ, num_codes: int) -> CodebookUpdates:
    """Statistics of one micro-batch.

    Args:
      z_BtZU: float[B, ..., Z, U] encoder output; there may be any axes after B.
      code_BtZ: int32[B, ..., Z] chosen codes.
      valid_Bt: bool[B, ...] False where the frame is missing.
      priority_BtZ: float32[B, ..., Z] uniform within [0, 1), one random rank a vector.
      num_codes: V.
    """
    U = z_BtZU.shape[-1]
    valid_R = jnp.broadcast_to(valid_Bt[..., None], code_BtZ.shape).reshape(-1)
    vector_RU = jnp.where(valid_R[:, None], z_BtZU.reshape(-1, U).astype(jnp.float32), 0.0)
    chosen_BtZV = chosen_codes(code_BtZ, valid_Bt, num_codes)
    chosen_RV = chosen_BtZV.reshape(-1, num_codes)
    sum_VU = jnp.einsum("RV,RU->VU", chosen_RV, vector_RU, precision="highest")
    priority_R = jnp.where(valid_R, priority_BtZ.reshape(-1), -1.0)
    missing = max(num_codes - len(priority_R), 0)
    priority_R = jnp.pad(priority_R, (0, missing), constant_values=-1.0)
    vector_RU = jnp.pad(vector_RU, ((0, missing), (0, 0)))
    priority_V, row_V = jax.lax.top_k(priority_R, num_codes)
    updates = CodebookUpdates(chosen_BtZV.sum(0), sum_VU, vector_RU[row_V], priority_V)
    return jax.lax.stop_gradient(updates)


def merged_updates(first: CodebookUpdates, second: CodebookUpdates) -> CodebookUpdates:
    """Updates of two micro-batches as of one batch: counts add, the best ranks stay."""
    count_tZV = first.count_tZV + second.count_tZV
    if first.priority_V is None:
        return CodebookUpdates(count_tZV)
    priority = jnp.concatenate([first.priority_V, second.priority_V])
    candidate = jnp.concatenate([first.candidate_VU, second.candidate_VU])
    priority_V, row_V = jax.lax.top_k(priority, len(first.priority_V))
    return CodebookUpdates(count_tZV, first.sum_VU + second.sum_VU, candidate[row_V], priority_V)


def updated_codebook(
    state, updates: CodebookUpdates, *, decay: float, restart_below: float, cosine: bool = False
):
    """Moves every code towards the mean of its vectors and restarts the dead ones.

    The first batch replaces the whole codebook by its own vectors. Later a code
    whose average count falls below `restart_below` of an even share becomes a
    random vector of the global batch.

    Args:
      state: as `initial_codebook` returns it.
      updates: merged over the step.
      decay: of the moving averages of counts and sums.
      restart_below: fraction of the even share of vectors, within [0, 1).
      cosine: keep rows at length 1.

    Returns:
      The new state and the number of restarted codes (float32 scalar).
    """
    count_V = decay * state["count"] + (1 - decay) * updates.count_V
    sum_VU = decay * state["sum"] + (1 - decay) * updates.sum_VU
    share = jnp.maximum(count_V.mean(), 1e-6)
    first = state["seen"] == 0
    share = jnp.where(first, jnp.maximum(updates.count_V.mean(), 1e-6), share)
    restart_V = (first | (count_V < restart_below * share)) & (updates.priority_V >= 0)
    count_V = jnp.where(restart_V, share, count_V)
    sum_VU = jnp.where(restart_V[:, None], share * updates.candidate_VU, sum_VU)
    # A code that nobody chose for long and that could not be restarted stays where it is.
    alive_V = count_V > 1e-6
    mean_VU = sum_VU / jnp.maximum(count_V, 1e-6)[:, None]
    codebook_VU = jnp.where(alive_V[:, None], mean_VU, state["codebook"])
    codebook_VU = unit_rows(codebook_VU) if cosine else codebook_VU
    new_state = {"codebook": codebook_VU, "count": count_V, "sum": sum_VU, "seen": state["seen"] + 1}
    return new_state, restart_V.sum().astype(jnp.float32)


def restarted_codebook(state, updates: CodebookUpdates, *, cosine: bool = False):
    """Replaces every code by a random vector of the batch, used or not, as the first batch does.

    Args:
      state: after the step.
      updates: merged over the step.
      cosine: keep rows at length 1.

    Returns:
      The new state; a code that has no candidate stays.
    """
    found_V = updates.priority_V >= 0
    share = jnp.maximum(state["count"].mean(), 1e-6)
    candidate_VU = unit_rows(updates.candidate_VU) if cosine else updates.candidate_VU
    return {
        "codebook": jnp.where(found_V[:, None], candidate_VU, state["codebook"]),
        "count": jnp.where(found_V, share, state["count"]),
        "sum": jnp.where(found_V[:, None], share * candidate_VU, state["sum"]),
        "seen": state["seen"],
    }


def perplexity(count_V):
    """Exp of the entropy of the code frequencies; 1 when collapsed, V when even.

    Args:
      count_V: float32[..., V].

    Returns:
      float32[...].
    """
    p_V = count_V / jnp.maximum(count_V.sum(-1, keepdims=True), 1e-9)
    return jnp.exp(-jnp.sum(p_V * jnp.log(jnp.maximum(p_V, 1e-12)), axis=-1))


def place_perplexity(count_tZV):
    """Perplexity of the codes of one slot of one transition, averaged over the places.

    A code that only says which slot and which transition it belongs to says
    nothing of the clip, yet over all places there are many. Here it counts as 1.

    Args:
      count_tZV: see `CodebookUpdates`.

    Returns:
      (sum, count) float32 scalars; each place weighs as many vectors as it has.
    """
    count_tZ = count_tZV.sum(-1)
    return (perplexity(count_tZV) * count_tZ).sum(), count_tZ.sum()
