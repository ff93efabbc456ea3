"""The context of the policy: what it is told and sees, embedded, with what of it is missing."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.layout import Layout


class Context(NamedTuple):
    """Embedded inputs of group C; a part of size 0 in the layout is None.

    Attributes:
      language: float[B, L, D] text tokens.
      frames: float[B, T, P, N, D] patch tokens of the history frames, oldest first.
      proprio: float[B, proprio, D].
      language_valid: bool[B, L] False for padding; None: all are valid.
      frame_valid: bool[B, T, P] False where a camera or a frame is missing; None: all are there.
      proprio_valid: bool[B, proprio]; None: all are valid.
    """

    language: Any = None
    frames: Any = None
    proprio: Any = None
    language_valid: Any = None
    frame_valid: Any = None
    proprio_valid: Any = None


def flat_context(context: Context, layout: Layout, width: int):
    """Puts the context in one row: language, frames, proprioception.

    Missing tokens are set to zero. Their keys are masked besides, but a masked
    NaN would still get through, as 0 * NaN.

    Args:
      context: of B samples.
      layout: its sizes.
      width: D.

    Returns:
      tokens_BSD: float[B, S, D].
      valid_BS: bool[B, S].

    Raises:
      PolicyError: a part whose shape is not that of the layout.
    """
    N = layout.grid[0] * layout.grid[1]
    tokens, valid = [], []
    for name, axes, lead in (
        ("language", (layout.language,), 1),
        ("frames", (layout.frames, layout.views, N), 2),
        ("proprio", (layout.proprio,), 1),
    ):
        if 0 in axes:
            continue
        part, part_valid = _checked(context, name, axes, lead, width)
        B = part.shape[0]
        spread = part_valid.reshape(*part_valid.shape, *(1,) * (part.ndim - part_valid.ndim))
        tokens.append(jnp.where(spread, part, 0).reshape(B, -1, width))
        valid.append(jnp.broadcast_to(spread[..., 0], part.shape[:-1]).reshape(B, -1))
    if len({part.shape[0] for part in tokens}) > 1:
        raise PolicyError(f"parts of the context differ in batch size: {[part.shape for part in tokens]}")
    return jnp.concatenate(tokens, axis=1), jnp.concatenate(valid, axis=1)


def _checked(context, name, axes, lead, width):
    """A part and its validity over the first `lead` of its axes after the batch."""
    part = getattr(context, name)
    valid_name = f"{name.removesuffix('s')}_valid"
    valid = getattr(context, valid_name)
    if part is None or part.shape[1:] != (*axes, width):
        found = None if part is None else list(part.shape)
        raise PolicyError(
            f"context.{name}: expected [B, {', '.join(map(str, (*axes, width)))}], found {found}"
        )
    shape = (part.shape[0], *axes[:lead])
    if valid is None:
        return part, jnp.ones(shape, bool)
    if valid.shape != shape or valid.dtype != bool:
        raise PolicyError(
            f"context.{valid_name}: expected bool{list(shape)}, found {valid.dtype}{list(valid.shape)}"
        )
    return part, valid
