"""Embeds an observation into the context of the policy: text, history frames, proprioception."""

from __future__ import annotations

import math

import flax.linen as nn
import jax.numpy as jnp

from farsighted_jax.encoders.geometry import DepthFusion
from farsighted_jax.encoders.patch import PatchEncoder
from farsighted_jax.encoders.text import text_encoder
from farsighted_jax.layers.keypoints import KEYPOINT_SCALE, SpatialSoftmax
from farsighted_jax.layers.prefix_attention import EPSILON
from farsighted_jax.policy.context import Context
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.layout import Layout
from farsighted_jax.policy.observation import Observation


class ContextEncoder(nn.Module):
    """Maps every part of an observation that the layout has tokens for to the width of the policy.

    Whatever encoder a part comes from, it is normalised before its projection, so
    that all tokens of the context start out of one size.

    Attributes:
      layout: sizes of the groups.
      width: D.
      patch: pixels a patch.
      own_frames: whether images are embedded by an encoder trained along, rather
        than handed over as tokens of a frozen one.
      depth_input: "none", or "fuse": depth is added to the tokens of either.
      text: variant of an encoder of `encoders.text` trained along; "": text is
        handed over as vectors of a frozen one.
      num_keypoints: G, 0 for none. With them every token of a frame also knows where in it G learned
        features lie, as in `SpaceTimeEncoder`: a shortcut for short runs.
      unroll: see `TextEncoder`.
      dtype: of the computation; parameters and norms are float32.
    """

    layout: Layout
    width: int
    patch: int
    own_frames: bool = True
    depth_input: str = "none"
    text: str = ""
    num_keypoints: int = 0
    unroll: int = 1
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, observation: Observation) -> Context:
        """Embeds B observations.

        Raises:
          PolicyError: a part that the layout has tokens for is None, or a frame of another number of patches.
          EncoderError: ids or a mask of text of another shape or dtype, or an unknown variant.
        """
        layout = self.layout
        language_BLD, language_valid_BL = self._language(observation) if layout.language else (None, None)
        frames_BRPND, frame_valid_BRP = self._frames(observation) if layout.frame_tokens else (None, None)
        proprio_BSD, proprio_valid_BS = self._proprio(observation) if layout.proprio else (None, None)
        return Context(
            language_BLD, frames_BRPND, proprio_BSD, language_valid_BL, frame_valid_BRP, proprio_valid_BS
        )

    def _language(self, observation):
        """Text tokens float[B, L, D], and which are real."""
        if self.text:
            (token_BL,) = observation.required("token_BL")
            valid_BL = _or_all(observation.text_valid_BL, token_BL.shape)
            encoder = text_encoder(self.text, unroll=self.unroll, dtype=self.dtype, name="text")
            text_BLE = encoder(token_BL, valid_BL)
        else:
            (text_BLE,) = observation.required("text_BLE")
            valid_BL = _or_all(observation.text_valid_BL, text_BLE.shape[:2])
        return self._projected("language", jnp.where(valid_BL[..., None], text_BLE, 0)), valid_BL

    def _frames(self, observation):
        """Patch tokens float[B, R, P, N, D], and which frames are there."""
        name = "rgb_BRPHWC" if self.own_frames else "tokens_BRPNE"
        (given,) = observation.required(name)
        valid_BRP = _or_all(observation.frame_valid_BRP, given.shape[:3])
        # Masked here and not only in the context: NaN times a gradient of zero is NaN.
        frames = jnp.where(_spread(valid_BRP, given), given, 0)
        if self.own_frames:
            frames = PatchEncoder(self.width, self.patch, self.dtype, name="image")(frames)
        if self.depth_input == "fuse":
            depth, depth_valid = observation.required("depth_BRPHW1", "depth_valid_BRPHW1")
            depth_valid = depth_valid & _spread(valid_BRP, depth)
            frames = DepthFusion(self.patch, self.dtype, name="depth_fusion")(frames, depth, depth_valid)
        tokens_BRPND = self._projected("frame", frames)
        if self.num_keypoints:
            tokens_BRPND += self._keypoints(frames)[..., None, :]
        return tokens_BRPND, valid_BRP

    def _keypoints(self, frames_BRPNE):
        """Where the keypoints of each frame lie, float[B, R, P, D]."""
        B, R, P, N, E = frames_BRPNE.shape
        if N != math.prod(self.layout.grid):
            raise PolicyError(f"frames of {N} patches, expected a grid of {list(self.layout.grid)}")
        find = SpatialSoftmax(self.num_keypoints, self.dtype, name="keypoints")
        point_BFG2 = KEYPOINT_SCALE * find(frames_BRPNE.reshape(B, R * P, N, E), self.layout.grid)
        return nn.Dense(self.width, dtype=self.dtype, name="where")(point_BFG2.reshape(B, R, P, -1))

    def _proprio(self, observation):
        """Tokens float[B, S, D]; they are there where any dimension is valid."""
        (proprio_BI,) = observation.required("proprio_BI")
        valid_BI = _or_all(observation.proprio_valid_BI, proprio_BI.shape)
        # A joint at zero and one that the robot lacks are told apart by the second half.
        told_BF = jnp.concatenate([jnp.where(valid_BI, proprio_BI, 0), valid_BI], axis=-1)
        S = self.layout.proprio
        hidden_BD = nn.gelu(nn.Dense(self.width, dtype=self.dtype, name="proprio_up")(told_BF))
        proprio_BF = nn.Dense(S * self.width, dtype=self.dtype, name="proprio_down")(hidden_BD)
        any_BS = jnp.broadcast_to(jnp.any(valid_BI, axis=1, keepdims=True), (len(proprio_BI), S))
        return proprio_BF.reshape(-1, S, self.width), any_BS

    def _projected(self, name, x):
        """float[..., E] -> float[..., D]."""
        normed = nn.LayerNorm(epsilon=EPSILON, dtype=self.dtype, name=f"{name}_norm")(x)
        return nn.Dense(self.width, dtype=self.dtype, name=name)(normed)


def _or_all(valid, shape):
    return jnp.ones(shape, bool) if valid is None else valid


def _spread(valid, like):
    """A mask with axes of size 1 behind, to broadcast to an array."""
    return valid.reshape(*valid.shape, *(1,) * (like.ndim - valid.ndim))
