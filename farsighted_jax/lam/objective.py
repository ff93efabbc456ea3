"""The training objective of the LAM: reconstruction of rgb and depth, and the quantiser's losses."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from farsighted_jax.core.batch import DEPTH_CONSTANTS, BatchError, float_rgb, transition_valid
from farsighted_jax.core.rng import sample_keys
from farsighted_jax.encoders.geometry import relative_clips
from farsighted_jax.lam.contrastive import Contrastive, num_compared
from farsighted_jax.lam.contrastive import loss as contrastive_loss
from farsighted_jax.lam.model import FarsightedLam
from farsighted_jax.lam.networks import FrozenNetworks, stored_tokens
from farsighted_jax.lam.quantizer import Quantizer
from farsighted_jax.layers import vector_quantizer as vq
from farsighted_jax.losses import depth as depth_loss
from farsighted_jax.losses import quantizer as quantizer_loss
from farsighted_jax.losses.feature import token_error
from farsighted_jax.losses.masked import masked_sum, weighted_mean
from farsighted_jax.losses.reconstruction import squared_error

DEPTH_FIELDS = ("depth", "depth_valid")
# What the encoder reads in their place where a batch has it, see `data.depth_noise`.
SENSED_FIELDS = ("sensed_depth", "sensed_depth_valid")
# What stands in for the frozen image encoder where a batch has it, see `data.image_features`.
TOKEN_FIELD = "image_token"
# Of the encoder, where it calls a field by another name.
ARGUMENTS = {"depth": "depth_BTHW1", "depth_valid": "depth_valid_BTHW1"}


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weight of each term; `codebook` counts for the quantiser "gradient" alone, `commit` not for "fsq".

    A weight of 0 for one of the last four leaves the term out of the computation.
    """

    rgb: float = 1.0
    depth: float = 0.1
    commit: float = 0.25
    codebook: float = 1.0
    lpips: float = 0.0
    feature: float = 0.0
    contrastive: float = 0.0
    relative_depth: float = 0.0


def depth_fields(model: FarsightedLam, networks: FrozenNetworks) -> tuple[str, ...]:
    """Batch fields of depth that the encoder reads."""
    if model.depth_input == "none":
        return ()
    return DEPTH_FIELDS + (DEPTH_CONSTANTS if networks.depth_estimator else ())


def encoder_inputs(model: FarsightedLam, networks: FrozenNetworks, batch):
    """What `FarsightedLam.encode` reads of a batch, by the names of its arguments; networks come after it.

    A batch without depth gives none where an estimator stands in for it.

    Raises:
      BatchError: the model reads depth, and the batch has none or a part of its fields.
    """
    fields = depth_fields(model, networks)
    if networks.depth_estimator and not any(name in batch for name in fields):
        fields = ()
    missing = [name for name in fields if name not in batch]
    if missing:
        instead = "" if networks.depth_estimator else " or a model.depth_estimator in its place"
        raise BatchError(
            f"batch field(s) {missing} missing: the model was configured with model.depth_input = "
            f"{model.depth_input!r}, which needs a dataset with depth{instead}; the batch has {sorted(batch)}"
        )
    sensed = dict(zip(DEPTH_FIELDS, SENSED_FIELDS, strict=True)) if SENSED_FIELDS[0] in batch else {}
    inputs = {"rgb_BTHWC": float_rgb(batch["rgb"]), "time_s_BT": batch["time_s"]}
    if TOKEN_FIELD in batch:
        inputs["tokens_BTNE"] = stored_tokens(batch[TOKEN_FIELD], networks.dtype)
    return inputs | {ARGUMENTS.get(name, name): batch[sensed.get(name, name)] for name in fields}


def depth_mask(batch):
    """Measured depth pixels of frames 1..t that exist, bool[B, t, H, W, 1]."""
    return batch["depth_valid"][:, 1:] & transition_valid(batch["frame_valid"])[:, :, None, None, None]


def relative_depth_mask(batch):
    """Pixels of frames 1..t that exist in clips whose depth is relative, bool[B, t, H, W, 1]."""
    size = batch["rgb"].shape
    relative_B = relative_clips(batch["depth_valid"]) if "depth" in batch else jnp.ones(size[0], bool)
    relative_Bt = relative_B[:, None] & transition_valid(batch["frame_valid"])
    return jnp.broadcast_to(relative_Bt[:, :, None, None, None], (*relative_Bt.shape, *size[2:4], 1))


def denominators(weights: LossWeights, contrastive: Contrastive, batch):
    """Numbers of valid transitions, depth pairs and compared transitions in a whole step batch."""
    counts = {"transitions": transition_valid(batch["frame_valid"]).sum(dtype=jnp.float32)}
    if "depth" in batch:
        along_x, along_y = depth_loss.pair_masks(depth_mask(batch))
        counts["depth_x"] = along_x.sum(dtype=jnp.float32)
        counts["depth_y"] = along_y.sum(dtype=jnp.float32)
    if weights.relative_depth:
        along_x, along_y = depth_loss.pair_masks(relative_depth_mask(batch))
        counts["relative_depth_x"] = along_x.sum(dtype=jnp.float32)
        counts["relative_depth_y"] = along_y.sum(dtype=jnp.float32)
    if weights.contrastive:
        counts["contrastive"] = num_compared(contrastive, batch, float_rgb(batch["rgb"]))
    return counts


def loss(
    model: FarsightedLam,
    quantizer: Quantizer,
    weights: LossWeights,
    contrastive: Contrastive,
    networks: FrozenNetworks,
    params,
    model_state,
    batch,
    key,
    counts,
):
    """Loss of one (micro-)batch; see `core.task.Task.loss`.

    Every term is a masked sum over (sample, k), divided by the count of the
    whole step, so that a missing frame is never a target (eq. 4 to 6, mean over k).
    """
    inputs = encoder_inputs(model, networks, batch)
    rgb_BTHWC = inputs["rgb_BTHWC"]
    valid_Bt = transition_valid(batch["frame_valid"])

    def encode(rgb_BTHWC):
        frozen_inputs = networks.encoder_inputs(params, inputs | {"rgb_BTHWC": rgb_BTHWC})
        encoded_BtZU = model.apply({"params": params}, **frozen_inputs, method="encode")
        return quantizer.comparable(encoded_BtZU), frozen_inputs

    encoded_BtZU, frozen_inputs = encode(rgb_BTHWC)
    code_BtZ, nearest_BtZU = quantizer.nearest_code(encoded_BtZU, params, model_state)
    quantized_BtZU = quantizer.bottleneck(encoded_BtZU, nearest_BtZU, model_state)
    predicted = model.apply(
        {"params": params}, rgb_BTHWC[:, 0], quantized_BtZU, batch["time_s"][:, 1:], method="decode"
    )

    error_Bt = squared_error(predicted[0], rgb_BTHWC[:, 1:])
    errors = {"rgb": error_Bt}
    if weights.lpips:
        errors["lpips"] = networks.perceptual_distance(params, predicted[0], rgb_BTHWC[:, 1:])
    if weights.feature:
        errors["feature"] = token_error(predicted[2], frozen_inputs["tokens_BTNE"][:, 1:])
    errors |= _quantizer_errors(quantizer, params, model_state, encoded_BtZU, code_BtZ, nearest_BtZU)
    count = counts["transitions"]
    terms = {name: weighted_mean(value_Bt, valid_Bt, count) for name, value_Bt in errors.items()}
    terms |= _depth_terms(weights, predicted[1], batch, frozen_inputs, counts)
    if weights.contrastive:
        terms["contrastive"] = contrastive_loss(
            contrastive,
            lambda view_BTHWC: encode(view_BTHWC)[0],
            batch,
            rgb_BTHWC,
            encoded_BtZU,
            key,
            counts["contrastive"],
        )
    total = sum(getattr(weights, name) * term for name, term in terms.items())

    updates = _updates(quantizer, encoded_BtZU, code_BtZ, valid_Bt, batch["row"], key)
    return total, (_metrics(terms, total, error_Bt, valid_Bt, count), updates)


def _quantizer_errors(quantizer, params, model_state, encoded_BtZU, code_BtZ, nearest_BtZU):
    """What binds vectors and codes to each other, name -> float32[B, t]."""
    errors = {}
    if quantizer.name != "fsq":
        commit_Bt = quantizer_loss.commitment(encoded_BtZU, nearest_BtZU)
        errors["commit"] = quantizer.warm(model_state) * commit_Bt
    if quantizer.name == "gradient":
        learned_BtZU = quantizer.codebook_VU(params, model_state)[code_BtZ]
        errors["codebook"] = quantizer_loss.codebook(encoded_BtZU, learned_BtZU)
    return errors


def _depth_terms(weights, depth_BtHW1, batch, frozen_inputs, counts):
    """The terms of measured and of relative depth, each of its own pixels: no mean is over both."""
    rgb_BtHWC, terms = frozen_inputs["rgb_BTHWC"][:, 1:], {}
    if "depth" in batch:
        count = counts["depth_x"], counts["depth_y"]
        terms["depth"] = depth_loss.gradient_aware_log_loss(
            depth_BtHW1, batch["depth"][:, 1:], depth_mask(batch), rgb_BtHWC, *count
        )
    if weights.relative_depth:
        # The target is the estimate, as the encoder reads it.
        target_BtHW1 = frozen_inputs["depth_BTHW1"][:, 1:]
        aligned_BtHW1 = depth_loss.aligned(depth_BtHW1, target_BtHW1)
        count = counts["relative_depth_x"], counts["relative_depth_y"]
        terms["relative_depth"] = depth_loss.gradient_aware_log_loss(
            aligned_BtHW1, target_BtHW1, relative_depth_mask(batch), rgb_BtHWC, *count
        )
    return terms


def _updates(quantizer, encoded_BtZU, code_BtZ, valid_Bt, row_B, key):
    if quantizer.name != "ema":
        return vq.CodebookUpdates(vq.chosen_codes(code_BtZ, valid_Bt, quantizer.codebook_size).sum(0))
    draw = jax.vmap(lambda sample_key: jax.random.uniform(sample_key, code_BtZ.shape[1:]))
    priority_BtZ = draw(sample_keys(key, row_B))
    return vq.codebook_updates(encoded_BtZU, code_BtZ, valid_Bt, priority_BtZ, quantizer.codebook_size)


def _metrics(terms, total, error_Bt, valid_Bt, count):
    """(sum, count) pairs; a term already divided by the step's count is multiplied by it again."""
    here = valid_Bt.sum(dtype=jnp.float32)
    metrics = {name: (term * count, here) for name, term in {**terms, "loss": total}.items()}
    psnr_Bt = -10 * jnp.log10(jnp.maximum(error_Bt, 1e-10))
    metrics["psnr"] = (masked_sum(psnr_Bt, valid_Bt), here)
    return metrics
