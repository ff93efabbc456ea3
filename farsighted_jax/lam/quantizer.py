"""The quantiser of the LAM, chosen by name: where its codebook lives and how it learns."""

from __future__ import annotations

import dataclasses

import jax

from farsighted_jax.layers import finite_scalar
from farsighted_jax.layers import vector_quantizer as vq

NAMES = ("ema", "gradient", "fsq")
DISTANCES = ("l2", "cosine")


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """Nearest-code quantisation: an EMA codebook (model state), a learned one (parameter), a fixed grid.

    Attributes:
      name: "ema", "gradient", or "fsq" which rounds every channel and has nothing to learn.
      codebook_size: V.
      code_width: U.
      distance: "l2", or "cosine" which compares directions; "fsq" reads it not.
      decay: moving average of the EMA codebook.
      restart_below: an EMA code used less than this fraction of an even share is restarted.
      warmup_steps: in the first steps of training the decoder reads the vectors
        before quantisation and nothing binds these to their codes, while the
        codebook already follows them. Motion is found sooner through a wide
        bottleneck than through a narrow one.
      levels: of "fsq" alone: grid values a channel; U of them, their product is V.
    """

    name: str
    codebook_size: int
    code_width: int
    distance: str = "l2"
    decay: float = 0.99
    restart_below: float = 0.1
    warmup_steps: int = 0
    levels: tuple[int, ...] = ()

    def init(self, key):
        """Model state; usage counts alone where the codebook is a parameter."""
        state = vq.initial_codebook(key, self.codebook_size, self.code_width)
        return state if self.name == "ema" else {"count": state["count"], "seen": state["seen"]}

    def codebook_VU(self, params, model_state):
        """The codebook, wherever it lives."""
        if self.name == "fsq":
            return finite_scalar.grid(self.levels)
        codebook_VU = model_state["codebook"] if self.name == "ema" else params["codebook"]
        return vq.unit_rows(codebook_VU) if self.distance == "cosine" else codebook_VU

    def comparable(self, encoded_BtZU):
        """What is compared with the codebook: the vectors, their directions, or (fsq) their bounded form."""
        if self.name == "fsq":
            return finite_scalar.bounded(encoded_BtZU, self.levels)
        return vq.unit_rows(encoded_BtZU) if self.distance == "cosine" else encoded_BtZU

    def nearest_code(self, encoded_BtZU, params, model_state):
        """Codes int32[B, t, Z] of comparable vectors, and the vectors of these codes, without gradient."""
        if self.name == "fsq":
            return finite_scalar.nearest_code(encoded_BtZU, self.levels)
        return vq.nearest_code(encoded_BtZU, self.codebook_VU(params, model_state))

    def warm(self, model_state):
        """Whether warm-up is over: float32 1, before that 0."""
        return (model_state["seen"] >= self.warmup_steps).astype(jax.numpy.float32)

    def bottleneck(self, encoded_BtZU, nearest_BtZU, model_state):
        """What the decoder reads in training: straight-through codes, or the vectors during warm-up."""
        quantized_BtZU = vq.straight_through(encoded_BtZU, nearest_BtZU)
        if not self.warmup_steps:
            return quantized_BtZU
        return jax.numpy.where(self.warm(model_state) > 0, quantized_BtZU, encoded_BtZU)

    def next_state(self, model_state, updates):
        """State after a step, and the number of codes it restarted."""
        if self.name == "ema":
            return vq.updated_codebook(
                model_state,
                updates,
                decay=self.decay,
                restart_below=self.restart_below,
                cosine=self.distance == "cosine",
            )
        count_V = self.decay * model_state["count"] + (1 - self.decay) * updates.count_V
        return {"count": count_V, "seen": model_state["seen"] + 1}, jax.numpy.zeros(())

    def restarted_state(self, model_state, updates):
        """State whose whole codebook comes from this step's vectors; only "ema" has one to restart."""
        if self.name != "ema":
            return model_state
        return vq.restarted_codebook(model_state, updates, cosine=self.distance == "cosine")
