"""The contrastive term of the LAM: two photometric views of a clip say the same, other windows do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

from farsighted_jax.core.batch import transition_valid
from farsighted_jax.core.rng import named_key, sample_keys
from farsighted_jax.losses.contrastive import contrastive_term, info_nce, negative_mask
from farsighted_jax.losses.masked import safe_ratio

# Weights of red, green and blue in gray (ITU-R 601).
LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True)
class Contrastive:
    """Settings of the term.

    Attributes:
      temperature: of the cosines.
      jitter: largest relative change of brightness, contrast and saturation of the second view.
      min_motion: mean absolute change of rgb, within [0, 1], from frame 0 to frame k
        below which a transition hardly moves and is no negative.
      other_episodes: also take clips of other episodes as negatives.
    """

    temperature: float = 0.1
    jitter: float = 0.3
    min_motion: float = 0.005
    other_episodes: bool = False


def second_view(rgb_BTHWC, key, row_B, jitter: float):
    """The clip in another light: one draw a clip, the same for all its frames.

    A pixel of the result depends on that pixel alone, so nothing of a missing
    frame reaches another one.

    Args:
      rgb_BTHWC: float[B, T, H, W, 3] within [0, 1].
      key: random key of the step.
      row_B: int32[B] index of each sample in the global batch.
      jitter: largest relative change.

    Returns:
      float[B, T, H, W, 3] within [0, 1].
    """

    def factors(sample_key):
        return jax.random.uniform(sample_key, (3,), minval=1 - jitter, maxval=1 + jitter)

    factor_B3 = jax.vmap(factors)(sample_keys(key, row_B))[:, :, None, None, None, None]
    brightness, contrast, saturation = factor_B3[:, 0], factor_B3[:, 1], factor_B3[:, 2]
    gray = (rgb_BTHWC @ jnp.asarray(LUMA, rgb_BTHWC.dtype))[..., None]
    rgb_BTHWC = gray + saturation * (rgb_BTHWC - gray)
    rgb_BTHWC = 0.5 + contrast * (brightness * rgb_BTHWC - 0.5)
    return jnp.clip(rgb_BTHWC, 0.0, 1.0)


def negatives(settings: Contrastive, batch, rgb_BTHWC):
    """Which transitions are compared with which, bool[B, B, t]; see `losses.contrastive.negative_mask`."""
    change_Bt = jnp.abs(rgb_BTHWC[:, 1:] - rgb_BTHWC[:, :1]).mean(axis=(2, 3, 4))
    valid_Bt = transition_valid(batch["frame_valid"])
    moving_Bt = change_Bt >= settings.min_motion
    return negative_mask(batch["dataset"], batch["episode"], valid_Bt, moving_Bt, settings.other_episodes)


def num_compared(settings: Contrastive, batch, rgb_BTHWC):
    """Number of transitions that have a negative, float32 scalar."""
    return negatives(settings, batch, rgb_BTHWC).any(axis=1).sum(dtype=jnp.float32)


def loss(settings: Contrastive, encode: Callable, batch, rgb_BTHWC, encoded_BtZU, key, count):
    """InfoNCE between a clip's vectors and those of its second view.

    Args:
      settings: see there.
      encode: rgb float[B, T, H, W, C] -> float[B, t, Z, U] vectors before quantisation.
      batch: fields frame_valid, dataset, episode, row.
      rgb_BTHWC: float[B, T, H, W, C] the first view, within [0, 1].
      encoded_BtZU: float[B, t, Z, U] its vectors.
      key: random key of the step.
      count: `num_compared` of the whole step's batch.

    Returns:
      float32 scalar, mean over the transitions that have a negative; 0 if none has.
    """
    view_BTHWC = second_view(rgb_BTHWC, named_key(key, "view"), batch["row"], settings.jitter)
    negative_BBt = negatives(settings, batch, rgb_BTHWC)
    valid_Bt = transition_valid(batch["frame_valid"])
    loss_Bt, num_negatives_Bt = info_nce(
        encoded_BtZU, encode(view_BTHWC), negative_BBt, valid_Bt, settings.temperature
    )
    return safe_ratio(contrastive_term(loss_Bt, num_negatives_Bt)[0], count)
