"""The parts of a LAM's training step, each as a function of its own that can be timed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from farsighted_jax.core.batch import float_rgb
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam import objective
from farsighted_jax.lam.task import LamTask
from farsighted_jax.pretrained.perceptual import LINEAR, VGG

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
      times: how often a step runs it.
    """

    function: Callable[[Any, Any], Any]
    learned: Any
    given: Any
    times: int = 1

    def passes(self, learned, given):
        """Forward and, where anything is learned, backward, from a gradient that no compiler can fold."""
        out, backward = jax.vjp(lambda learned: self.function(learned, given), learned)
        return backward(out) if jax.tree.leaves(learned) else out


def frozen_encoder(task: LamTask, params: Any, batch: Arrays) -> Part | None:
    """The pretrained networks that the encoder reads: image encoder, depth estimator."""
    image_encoder = "" if objective.TOKEN_FIELD in batch else task.networks.image_encoder
    names = [name for name in (image_encoder, task.networks.depth_estimator) if name]
    if not names:
        return None

    def function(_, given):
        return task.networks.encoder_inputs(*given)

    weights = {PRETRAINED: {name: params[PRETRAINED][name] for name in names}}
    inputs = objective.encoder_inputs(task.model, task.networks, batch)
    return Part(function, {}, (weights, inputs), _views(task))


def encoder(task: LamTask, params: Any, batch: Arrays) -> Part:
    """From the clip, or what pretrained networks make of it, to its vectors before quantisation."""
    inputs = objective.encoder_inputs(task.model, task.networks, batch)
    shapes = jax.eval_shape(task.networks.encoder_inputs, params, inputs)
    ones = {name: jnp.ones(leaf.shape, leaf.dtype) for name, leaf in shapes.items() if name not in inputs}
    given = {name: value for name, value in inputs.items() if name in shapes} | ones

    def function(learned, given):
        return task.model.apply({"params": learned}, **given, method="encode")

    return Part(function, _only(params, ENCODER), given, _views(task))


def decoder(task: LamTask, params: Any, batch: Arrays) -> Part:
    """From frame 0 and code vectors to the frames and their depth."""
    num_samples, num_frames = batch["frame_valid"].shape
    shape = (num_samples, num_frames - 1, task.model.num_slots, task.model.code_width)
    # Its gradient goes on into the encoder.
    learned = _only(params, DECODER), jnp.zeros(shape)

    def function(learned, given):
        return task.model.apply({"params": learned[0]}, given[0], learned[1], given[1], method="decode")

    return Part(function, learned, (float_rgb(batch["rgb"][:, 0]), batch["time_s"][:, 1:]))


def perceptual(task: LamTask, params: Any, batch: Arrays) -> Part | None:
    """LPIPS of the predicted frames, with its gradient for them."""
    if not task.weights.lpips:
        return None
    weights = {PRETRAINED: {name: params[PRETRAINED][name] for name in (VGG, LINEAR)}}
    target = float_rgb(batch["rgb"][:, 1:])

    def function(predicted, given):
        return task.networks.perceptual_distance(given[0], predicted, given[1])

    return Part(function, 1.0 - target, (weights, target))


# Name -> (task, all parameters, batch) -> part, or None where the configuration has no such part. A name
# is that of `flops.lam_flops`.
PARTS: dict[str, Callable[[LamTask, Any, Arrays], Part | None]] = {
    "frozen_encoder": frozen_encoder,
    "encoder": encoder,
    "decoder": decoder,
    "lpips": perceptual,
}


def lam_parts(task: LamTask, params: Any, batch: Arrays) -> dict[str, Part]:
    """The parts that a task has; frozen parameters stand in `params` beside the others."""
    found = {name: make(task, params, batch) for name, make in PARTS.items()}
    return {name: part for name, part in found.items() if part is not None}


def _views(task):
    """The contrastive loss encodes a second view of the clip."""
    return 2 if task.weights.contrastive else 1


def _only(params, names):
    return {name: params[name] for name in names if name in params}
