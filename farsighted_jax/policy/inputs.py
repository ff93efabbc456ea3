"""From a batch to what the policy reads: its observation, and the codes of the true future."""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

import jax.numpy as jnp

from farsighted_jax.core.batch import DEPTH_CONSTANTS, BatchError, float_rgb, transition_valid
from farsighted_jax.policy.networks import FrozenNetworks
from farsighted_jax.policy.observation import Observation

# Image encoders that are no network of the table: the LAM's, frozen, and one trained along.
LAM_ENCODER, OWN_ENCODER = "lam", "patch"

HISTORY_FIELDS = ("history_rgb", "history_valid")
HISTORY_DEPTH_FIELDS = ("history_depth", "history_depth_valid")
TEXT_FIELDS = ("text", "text_valid")
STORED_TEXT_FIELDS = ("text_vector", "text_valid")
PROPRIO_FIELDS = ("proprio", "proprio_valid")
CODE_FIELDS = ("code", "code_valid")


class LatentActions(Protocol):
    """A frozen latent action model, as the policy sees it; `lam.frozen.FrozenLam` is one.

    Attributes:
      num_slots: Z.
      codebook_size: V.
      token_width: E of its frame tokens.
      patch: pixels a patch.
      reads_depth: whether codes and tokens depend on depth.
    """

    num_slots: int
    codebook_size: int
    token_width: int
    patch: int
    reads_depth: bool

    def data_settings(self) -> dict[str, Any]:
        """Keys of `config.data` with the values that its clips must have."""

    def shapes(self) -> dict[str, Any]:
        """Shapes of its weights, as pretrained networks by name."""

    def codes(self, params, batch) -> Any:
        """int32[B, t, Z]."""

    def frame_tokens(self, params, rgb_BHWC, dataset_B, *depth) -> Any:
        """float[B, N, E]."""


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Which part of the input comes from where.

    Attributes:
      image_encoder: `LAM_ENCODER`, `OWN_ENCODER`, or a network's name.
      text_encoder: "" for no language, "own", or a network's name.
      reads_depth: whether the history's depth is read.
      reads_proprio: whether the robot's state is read.
      stored_codes: whether codes are fields of the batch rather than made from its clip.
      stored_text: whether vectors of texts are a field of the batch rather than made from its tokens.
      latent_actions: the frozen LAM, or None where neither a plan nor tokens need it.
      networks: the other frozen networks.
    """

    image_encoder: str
    text_encoder: str = ""
    reads_depth: bool = False
    reads_proprio: bool = False
    stored_codes: bool = False
    stored_text: bool = False
    latent_actions: LatentActions | None = None
    networks: FrozenNetworks = FrozenNetworks()

    @property
    def fields(self) -> tuple[str, ...]:
        """Batch fields that `observation` reads."""
        depth = HISTORY_DEPTH_FIELDS if self.reads_depth else ()
        text = STORED_TEXT_FIELDS if self.stored_text else TEXT_FIELDS if self.text_encoder else ()
        proprio = PROPRIO_FIELDS if self.reads_proprio else ()
        return (*HISTORY_FIELDS, *depth, *text, *proprio, "dataset")

    @property
    def token_width(self) -> int:
        """E of the tokens of the frozen image encoder; 0 where one is trained along."""
        if self.image_encoder == LAM_ENCODER:
            return self.latent_actions.token_width
        return self.networks.token_width

    @property
    def runs_lam(self) -> bool:
        """Whether the weights of the LAM are needed."""
        makes_codes = self.latent_actions is not None and not self.stored_codes
        return makes_codes or self.image_encoder == LAM_ENCODER

    @property
    def fuses_depth(self) -> bool:
        """Whether it is left to the policy to add depth to its tokens."""
        by_lam = self.image_encoder == LAM_ENCODER and self.latent_actions.reads_depth
        return self.reads_depth and not by_lam

    def observation(self, params, batch) -> Observation:
        """What the policy is told and sees at frame 0.

        Raises:
          BatchError: a field is missing.
        """
        _require(batch, self.fields)
        rgb_BRPHWC = float_rgb(batch["history_rgb"])
        parts: dict[str, Any] = {"rgb_BRPHWC": rgb_BRPHWC, "frame_valid_BRP": batch["history_valid"]}
        if self.fuses_depth:
            parts["depth_BRPHW1"], parts["depth_valid_BRPHW1"] = (batch[f] for f in HISTORY_DEPTH_FIELDS)
        if self.image_encoder != OWN_ENCODER:
            parts["tokens_BRPNE"] = self._history_tokens(params, rgb_BRPHWC, batch)
        if self.text_encoder:
            parts["text_valid_BL"] = batch["text_valid"]
            name = "token_BL" if self.text_encoder == "own" else "text_BLE"
            parts[name] = self._text(params, batch)
        if self.reads_proprio:
            parts["proprio_BI"], parts["proprio_valid_BI"] = (batch[name] for name in PROPRIO_FIELDS)
        # Rows of padding have no dataset.
        return Observation(**parts, embodiment_B=jnp.maximum(batch["dataset"], 0))

    def code_valid(self, batch):
        """Which transitions have codes, bool[B, t]."""
        valid_Bt = transition_valid(batch["frame_valid"])
        if not self.stored_codes:
            return valid_Bt
        _require(batch, CODE_FIELDS)
        return valid_Bt & batch["code_valid"]

    def codes(self, params, batch):
        """Codes of the true future, int32[B, t, Z]; they mean nothing where `code_valid` is False."""
        return batch["code"] if self.stored_codes else self.latent_actions.codes(params, batch)

    def target_tokens(self, params, batch):
        """Tokens of the frozen image encoder in the next keyframe, float[B, N, E]."""
        return self._tokens(params, batch, float_rgb(batch["rgb"][:, 1]), "depth", lambda field: field[:, 1])

    def _history_tokens(self, params, rgb_BRPHWC, batch):
        lead = rgb_BRPHWC.shape[:3]

        def flat(frames):
            return frames.reshape(-1, *frames.shape[3:])

        tokens_BNE = self._tokens(params, batch, flat(rgb_BRPHWC), "history_depth", flat)
        return tokens_BNE.reshape(*lead, *tokens_BNE.shape[1:])

    def _tokens(self, params, batch, rgb_BHWC, depth, frames_of):
        """Tokens of frames, with the batch field `depth` of the same frames where the encoder reads it."""
        if self.image_encoder != LAM_ENCODER:
            return self.networks.frame_tokens(params, rgb_BHWC)
        num, inputs = len(rgb_BHWC) // len(batch["dataset"]), []
        if self.reads_depth and not self.fuses_depth:
            _require(batch, (depth, f"{depth}_valid", *DEPTH_CONSTANTS))
            inputs = [frames_of(batch[name]) for name in (depth, f"{depth}_valid")]
            inputs += [jnp.repeat(batch[name], num) for name in DEPTH_CONSTANTS]
        return self.latent_actions.frame_tokens(params, rgb_BHWC, jnp.repeat(batch["dataset"], num), *inputs)

    def _text(self, params, batch):
        if self.text_encoder == "own":
            return batch["text"]
        if self.stored_text:
            return batch["text_vector"].astype(self.networks.dtype)
        return self.networks.text_vectors(params, batch["text"], batch["text_valid"])


def _require(batch, names):
    if missing := [name for name in names if name not in batch]:
        raise BatchError(f"batch field(s) {missing} missing: this policy reads them; it has {sorted(batch)}")
