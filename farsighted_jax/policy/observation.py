"""What the policy is told and sees at one moment, before anything embeds it."""

from __future__ import annotations

from typing import Any, NamedTuple

from farsighted_jax.policy.errors import PolicyError


class Observation(NamedTuple):
    """Inputs of the policy; R history frames of P cameras, the last frame is the present one.

    Parts that the layout has no tokens for are None. What stands where a part is
    not valid has no influence, NaN included.

    Attributes:
      tokens_BRPNE: float[B, R, P, N, E] tokens of a frozen image encoder, or None where the
        policy trains an encoder of its own.
      rgb_BRPHWC: float[B, R, P, H, W, C] within [0, 1], for that encoder and for a visual
        prediction relative to the present frame.
      depth_BRPHW1: float32[B, R, P, H, W, 1] normalised log depth, for `depth_input` "fuse".
      depth_valid_BRPHW1: bool[B, R, P, H, W, 1] where it was measured.
      frame_valid_BRP: bool[B, R, P] False where a frame or a camera is missing; None: all are there.
      token_BL: int32[B, L] token ids, for a text encoder that is trained along.
      text_BLE: float[B, L, E] vectors of a frozen text encoder.
      text_valid_BL: bool[B, L] False for padding; None: all are real.
      proprio_BI: float[B, I] normalised.
      proprio_valid_BI: bool[B, I]; None: all are valid.
      embodiment_B: int32[B], for the action queries and the action head.
    """

    tokens_BRPNE: Any = None
    rgb_BRPHWC: Any = None
    depth_BRPHW1: Any = None
    depth_valid_BRPHW1: Any = None
    frame_valid_BRP: Any = None
    token_BL: Any = None
    text_BLE: Any = None
    text_valid_BL: Any = None
    proprio_BI: Any = None
    proprio_valid_BI: Any = None
    embodiment_B: Any = None

    def required(self, *names: str) -> tuple[Any, ...]:
        """The fields of these names.

        Raises:
          PolicyError: one of them is None.
        """
        missing = [name for name in names if getattr(self, name) is None]
        if missing:
            given = [name for name, field in self._asdict().items() if field is not None]
            raise PolicyError(f"the observation lacks {missing}, which this policy reads; it has {given}")
        return tuple(getattr(self, name) for name in names)
