"""The parts of a LAM's training step, each as a function of its own that can be timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from farsighted_jax.lam import objective
from farsighted_jax.lam.task import LamTask

Arrays = Mapping[str, jax.Array]


# Parameters of each part; the model makes its codebook with either.
ENCODER = ("image_encoder", "depth_fusion", "encoder", "codebook")
DECODER = ("decoder", "codebook")


class Part(NamedTuple):
    """One part.

    Attributes:
      function: (learned, given) -> arrays.
      learned: what the step takes a gradient of through this part: parameters, inputs that
        come from another trained part; {} for a frozen network.
      given: what it takes none of.
    """

    function: Callable[[Any, Any], Any]
    learned: Any
    given: Any

    def passes(self, learned, given):
        """Forward and, where anything is learned, backward, from a gradient that no compiler can fold."""
        out, backward = jax.vjp(lambda learned: self.function(learned, given), learned)
        return backward(out) if jax.tree.leaves(learned) else out


def encoder(task: LamTask, params: Any, batch: Arrays) -> Part:
    """From the clip to its vectors before quantisation."""

    def function(params, inputs):
        return task.model.apply({"params": params}, *inputs, method="encode")

    return Part(function, _only(params, ENCODER), objective.encoder_inputs(task.model, batch))


def decoder(task: LamTask, params: Any, batch: Arrays) -> Part:
    """From frame 0 and code vectors to the frames and their depth."""
    num_samples, num_frames = batch["frame_valid"].shape
    shape = (num_samples, num_frames - 1, task.model.num_slots, task.model.code_width)
    # Its gradient goes on into the encoder.
    learned = _only(params, DECODER), jnp.zeros(shape)

    def function(learned, given):
        return task.model.apply({"params": learned[0]}, given[0], learned[1], given[1], method="decode")

    return Part(function, learned, (objective.float_rgb(batch["rgb"][:, 0]), batch["time_s"][:, 1:]))


# Name -> (task, all parameters, batch) -> part, or None where the configuration has no such part. A name
# is that of `flops.lam_flops`.
PARTS: dict[str, Callable[[LamTask, Any, Arrays], Part | None]] = {"encoder": encoder, "decoder": decoder}


def lam_parts(task: LamTask, params: Any, batch: Arrays) -> dict[str, Part]:
    """The parts that a task has; frozen parameters stand in `params` beside the others."""
    found = {name: make(task, params, batch) for name, make in PARTS.items()}
    return {name: part for name, part in found.items() if part is not None}


def _only(params, names):
    return {name: params[name] for name in names if name in params}
