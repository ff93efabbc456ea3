"""What a policy gives: its predictions, and what it keeps between its stages."""

from __future__ import annotations

from typing import Any, NamedTuple

import flax.struct

from farsighted_jax.policy.backbone import Cache


class PolicyOutputs(NamedTuple):
    """What a policy predicts; parts that its layout lacks are None.

    Attributes:
      rgb_BHWC: float32[B, H, W, 3] next keyframe of the primary camera, see `VisionHead`.
      depth_BHW1: float32[B, H, W, 1] its normalised log depth.
      token_BNE: float32[B, N, E] its frozen tokens.
      logit_BnV: float32[B, n, V] of the codes z1..zn.
      velocity_BKJM: float32[B, K, J, M] at K points of each sample's path, see `Policy.velocities`.
      gripper_BJM: float32[B, J, M] see `GripperHead`.
    """

    rgb_BHWC: Any = None
    depth_BHW1: Any = None
    token_BNE: Any = None
    logit_BnV: Any = None
    velocity_BKJM: Any = None
    gripper_BJM: Any = None


@flax.struct.dataclass
class PolicyCache:
    """What is kept of an observation and of the groups computed since; each method returns a new one.

    Attributes:
      groups: of the backbone.
      context_BSD: float[B, S, D] hidden states of the context, for an action head that reads them.
      context_valid_BS: bool[B, S].
      frame_BHWC: float[B, H, W, C] present frame of the primary camera, for a residual prediction.
      vision_BND: float[B, N, D] what the vision queries start from.
    """

    groups: Cache
    context_BSD: Any = None
    context_valid_BS: Any = None
    frame_BHWC: Any = None
    vision_BND: Any = None
