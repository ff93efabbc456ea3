"""Symmetric InfoNCE between two views of the same clips (method: contrastive)."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from farsighted_jax.losses.masked import masked_sum


def negative_mask(dataset_B, episode_B, valid_Bt, moving_Bt, other_episodes: bool = False):
    """Which transitions are compared with which.

    Args:
      dataset_B: int[B] dataset of each clip.
      episode_B: int[B] episode within its dataset.
      valid_Bt: bool[B, t] transitions that exist.
      moving_Bt: bool[B, t] transitions in which something moves. One that hardly
        moves looks like any other one, so it is no negative; it may be an anchor.
      other_episodes: True takes clips of other episodes as negatives too. Scene
        identity alone then wins.

    Returns:
      bool[B, B, t]: True at [b, c, k] where clip c is a negative of clip b at transition k.
    """
    B = episode_B.shape[0]
    same_BB = (dataset_B[:, None] == dataset_B[None]) & (episode_B[:, None] == episode_B[None])
    apart_BB = ~jnp.eye(B, dtype=bool)
    comparable_BB = apart_BB if other_episodes else apart_BB & same_BB
    return comparable_BB[:, :, None] & valid_Bt[:, None] & (valid_Bt & moving_Bt)[None]


def info_nce(first_BtZU, second_BtZU, negative_BBt, valid_Bt, temperature: float = 0.1):
    """Recognises a clip's second view among its negatives' second views, and the reverse.

    Vectors are compared by cosine, each transition for itself, in float32.
    Where a transition is masked, its vectors enter nothing, not even as NaN.

    Args:
      first_BtZU: float[B, t, Z, U] vectors before quantisation of one view.
      second_BtZU: float[B, t, Z, U] the same of a photometrically different view.
      negative_BBt: bool[B, B, t] of `negative_mask`.
      valid_Bt: bool[B, t] transitions that exist.
      temperature: of the cosines, above 0.

    Returns:
      loss_Bt: float32[B, t] mean of both directions, 0 where there is no negative.
      num_negatives_Bt: float32[B, t]. Count only transitions with at least one;
        chance is log(1 + num_negatives).

    Raises:
      ValueError: a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, found {temperature}")
    first, second = (_unit_vectors(x_BtZU, valid_Bt) for x_BtZU in (first_BtZU, second_BtZU))
    logits_BBt = jnp.einsum("BtD,RtD->BRt", first, second, precision="highest") / temperature
    forward_Bt = _cross_entropy(logits_BBt, negative_BBt)
    backward_Bt = _cross_entropy(logits_BBt.swapaxes(0, 1), negative_BBt)
    loss_Bt = 0.5 * (forward_Bt + backward_Bt)
    num_negatives_Bt = negative_BBt.sum(axis=1, dtype=jnp.float32)
    return jnp.where(num_negatives_Bt > 0, loss_Bt, 0.0), num_negatives_Bt


def contrastive_term(loss_Bt, num_negatives_Bt):
    """Sum of the loss over transitions with a negative, and their number: a (sum, count) pair."""
    counted_Bt = num_negatives_Bt > 0
    return masked_sum(loss_Bt, counted_Bt), counted_Bt.sum(dtype=jnp.float32)


def _unit_vectors(x_BtZU, valid_Bt):
    """float32[B, t, Z * U] of length 1; zeros where masked, or where the vector is zero."""
    x_BtD = x_BtZU.astype(jnp.float32).reshape(*x_BtZU.shape[:2], -1)
    x_BtD = jnp.where(valid_Bt[..., None], x_BtD, 0.0)
    square_Bt1 = jnp.sum(x_BtD**2, axis=-1, keepdims=True)
    return x_BtD * jax.lax.rsqrt(jnp.where(square_Bt1 > 0, square_Bt1, 1.0))


def _cross_entropy(logits_BBt, negative_BBt):
    """-log softmax of the diagonal among itself and the negatives, float32[B, t]."""
    B = logits_BBt.shape[0]
    # The diagonal is always a candidate, so that no sum is empty and no gradient infinite.
    candidate_BBt = negative_BBt | jnp.eye(B, dtype=bool)[:, :, None]
    positive_Bt = jnp.einsum("BBt->Bt", logits_BBt)
    return jax.nn.logsumexp(logits_BBt, axis=1, where=candidate_BBt) - positive_Bt
