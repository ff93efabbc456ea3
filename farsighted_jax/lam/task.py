"""Farsighted-LAM as a `core.task.Task`: the only place of this package that sees a configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.batch import float_rgb
from farsighted_jax.core.config import ConfigError, check_choice, check_range
from farsighted_jax.core.rng import named_key
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.encoders.geometry import DEPTH_INPUTS
from farsighted_jax.encoders.patch import FRAME_ENCODERS
from farsighted_jax.encoders.vgg import SMALLEST
from farsighted_jax.lam import objective
from farsighted_jax.lam.contrastive import Contrastive
from farsighted_jax.lam.decoder import HEADS
from farsighted_jax.lam.model import VARIANTS, FarsightedLam
from farsighted_jax.lam.networks import FrozenNetworks
from farsighted_jax.lam.quantizer import DISTANCES, NAMES, Quantizer
from farsighted_jax.layers import finite_scalar
from farsighted_jax.layers import vector_quantizer as vq
from farsighted_jax.layers.remat import NONE, POLICIES
from farsighted_jax.layers.temporal_pyramid import check_dilations
from farsighted_jax.pretrained.models import MODELS

DTYPES = ("float32", "bfloat16")
# The image encoder that is trained with the model; the others are frozen networks of the table.
OWN_ENCODER = "patch"


@dataclasses.dataclass(frozen=True)
class LamTask:
    """Model, quantiser and loss weights of a LAM.

    Attributes:
      model: the linen module.
      quantizer: how codes are chosen and learned.
      weights: of the loss terms.
      contrastive: settings of that term.
      networks: pretrained and frozen.
    """

    model: FarsightedLam
    quantizer: Quantizer
    weights: objective.LossWeights
    contrastive: Contrastive = Contrastive()
    networks: FrozenNetworks = FrozenNetworks()

    partial_init = False

    def without_remat(self) -> LamTask:
        """Itself, with nothing computed twice to save memory."""
        return dataclasses.replace(self, model=self.model.clone(remat=NONE))

    @property
    def fields(self) -> tuple[str, ...]:
        """Batch fields that `encode` and `decode` read, as far as a batch has them."""
        depth = objective.depth_fields(self.model, self.networks)
        stored = (objective.TOKEN_FIELD,) if self.networks.image_encoder else ()
        return ("rgb", "time_s", *depth, *(objective.SENSED_FIELDS if depth else ()), *stored)

    def init(self, key, batch):
        """See `core.task.Task.init`."""
        inputs = objective.encoder_inputs(self.model, self.networks, batch)
        shapes = jax.eval_shape(self.networks.encoder_inputs, {PRETRAINED: self.pretrained_shapes()}, inputs)
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        params = self.model.init(named_key(key, "params"), **zeros)["params"]
        return params, self.quantizer.init(named_key(key, "codebook"))

    def pretrained_shapes(self):
        """See `core.task.Task.pretrained_shapes`."""
        return self.networks.shapes()

    def denominators(self, batch):
        """See `core.task.Task.denominators`."""
        return objective.denominators(self.weights, self.contrastive, batch)

    def loss(self, params, model_state, batch, key, denominators):
        """See `core.task.Task.loss`."""
        return objective.loss(
            self.model,
            self.quantizer,
            self.weights,
            self.contrastive,
            self.networks,
            params,
            model_state,
            batch,
            key,
            denominators,
        )

    def merge_updates(self, first, second):
        """See `core.task.Task.merge_updates`."""
        return vq.merged_updates(first, second)

    def next_model_state(self, model_state, updates):
        """See `core.task.Task.next_model_state`; reports perplexity, usage and restarts of the step."""
        state, restarts = self.quantizer.next_state(model_state, updates)
        used = (updates.count_V > 0).mean(dtype=jnp.float32)
        values = {
            "code_perplexity": vq.perplexity(updates.count_V),
            "code_usage": used,
            "code_restarts": restarts,
        }
        metrics = {name: (value, jnp.ones(())) for name, value in values.items()}
        return state, metrics | {"place_perplexity": vq.place_perplexity(updates.count_tZV)}

    def restarted_model_state(self, model_state, updates):
        """See `core.task.Task.restarted_model_state`."""
        return self.quantizer.restarted_state(model_state, updates)

    def encode(self, params, model_state, batch) -> dict[str, jax.Array]:
        """Codes of a clip.

        Returns:
          code: int32[B, t, Z]; encoded: float32[B, t, Z, U] before quantisation;
          quantized: float32[B, t, Z, U].
        """
        inputs = objective.encoder_inputs(self.model, self.networks, batch)
        inputs = self.networks.encoder_inputs(params, inputs)
        encoded_BtZU = self.model.apply({"params": params}, **inputs, method="encode")
        encoded_BtZU = self.quantizer.comparable(encoded_BtZU)
        code_BtZ, quantized_BtZU = self.quantizer.nearest_code(encoded_BtZU, params, model_state)
        return {"code": code_BtZ, "encoded": encoded_BtZU, "quantized": quantized_BtZU}

    def relative_depth(self, params, batch) -> tuple[jax.Array, jax.Array]:
        """Depth of clips without measured depth, as estimated.

        Returns:
          float32[B, T, H, W, 1], see `pseudo_depth.relative_depth`, and bool[B, T],
          True for the frames that exist of the clips that it holds for.
        """
        inputs = objective.encoder_inputs(self.model, self.networks, batch)
        inputs = self.networks.encoder_inputs(params, inputs)
        mask_BT = inputs["depth_relative_B"][:, None] & batch["frame_valid"]
        return inputs["depth_BTHW1"], mask_BT

    def decode(self, params, batch, quantized_BtZU) -> dict[str, jax.Array]:
        """Predicted rgb within [0, 1], float32[B, t, H, W, 3], and depth float32[B, t, H, W, 1]."""
        rgb_BtHWC, depth_BtHW1, _ = self.model.apply(
            {"params": params},
            float_rgb(batch["rgb"][:, 0]),
            quantized_BtZU,
            batch["time_s"][:, 1:],
            method="decode",
        )
        return {"rgb": jnp.clip(rgb_BtHWC, 0, 1), "depth": depth_BtHW1}


def lam_task(config: Mapping[str, Any]) -> LamTask:
    """Builds the task from a run's configuration (`config.model`, `config.quantizer`, `config.loss`).

    Raises:
      ConfigError: an unknown variant, head, quantiser, distance, encoder, dtype or remat, a size
        out of range, a patch that does not divide the resolution or is not that of the image
        encoder, a dilation that reaches beyond the clip, levels that do not give the code
        width and the codebook size, or a loss without what it compares with.
    """
    model, data = config["model"], config["data"]
    check_choice("model.variant", model["variant"], VARIANTS)
    check_choice("model.head", model["head"], HEADS)
    check_choice("model.dtype", model["dtype"], DTYPES)
    check_choice("model.remat", model["remat"], POLICIES)
    check_choice("model.frame_encoder", model["frame_encoder"], FRAME_ENCODERS)
    check_choice("model.depth_input", model["depth_input"], DEPTH_INPUTS)
    if model["depth_input"] == "fuse" and data["depth"] == "off" and not model["depth_estimator"]:
        raise ConfigError(
            "configuration key 'data.depth' is 'off', but 'model.depth_input' is 'fuse'; "
            "expected data.depth 'auto' or 'on', or a model.depth_estimator"
        )
    for key in ("num_slots", "code_width", "patch", "unroll"):
        check_range(f"model.{key}", model[key], 1)
    check_range("model.num_keypoints", model["num_keypoints"], 0)
    for key, weight in config["loss"].items():
        check_range(f"loss.{key}", weight, 0.0)
    networks = _networks(config)
    _check_stored_tokens(config, networks)
    if data["resolution"] % model["patch"]:
        raise ConfigError(
            f"configuration key 'data.resolution': {data['resolution']} is not divisible by "
            f"model.patch = {model['patch']}"
        )
    _check_pyramid(model, len(data["offsets_s"]) + 1)
    quantizer = _quantizer(config)
    return LamTask(
        FarsightedLam(
            **VARIANTS[model["variant"]],
            num_slots=model["num_slots"],
            code_width=model["code_width"],
            patch=model["patch"],
            head=model["head"],
            codebook_size=quantizer.codebook_size if quantizer.name == "gradient" else 0,
            unroll=model["unroll"],
            dtype=jnp.dtype(model["dtype"]),
            pyramid=tuple(model["pyramid"]),
            pyramid_every=model["pyramid_every"],
            num_keypoints=model["num_keypoints"],
            depth_input=model["depth_input"],
            token_width=networks.token_width,
            frame_encoder=model["frame_encoder"],
            token_head=config["loss"]["feature"] > 0,
            remat=model["remat"],
        ),
        quantizer,
        objective.LossWeights(**{key: config["loss"][key] for key in config["loss"]}),
        _contrastive(config),
        networks,
    )


def _networks(config):
    model, weights, resolution = config["model"], config["loss"], config["data"]["resolution"]
    encoders = [name for name in MODELS if name.startswith("dinov2-")]
    check_choice("model.image_encoder", model["image_encoder"], (OWN_ENCODER, *encoders))
    image_encoder = "" if model["image_encoder"] == OWN_ENCODER else model["image_encoder"]
    if image_encoder:
        patch = MODELS[image_encoder].module().patch
        if model["patch"] != patch:
            raise ConfigError(
                f"configuration key 'model.patch' is {model['patch']}, but model.image_encoder = "
                f"{image_encoder!r} has patches of {patch} px; expected {patch}, and a data.resolution that "
                f"it divides, such as {max(round(resolution / patch), 1) * patch}"
            )
    if weights["feature"] and not image_encoder:
        raise ConfigError(
            "configuration key 'loss.feature' is on, but 'model.image_encoder' is 'patch', which has no "
            f"frozen tokens to predict; expected one of {encoders}"
        )
    if weights["lpips"] and resolution < SMALLEST:
        raise ConfigError(
            f"configuration key 'data.resolution' is {resolution}, but 'loss.lpips' is on and its network "
            f"takes no less than {SMALLEST} px"
        )
    networks = FrozenNetworks(
        image_encoder, weights["lpips"] > 0, _depth_estimator(config), jnp.dtype(model["dtype"])
    )
    # Runs from before this term was there have no such key.
    if weights.get("relative_depth", 0.0) and not networks.depth_is_relative:
        raise ConfigError(
            "configuration key 'loss.relative_depth' is on, but 'model.depth_estimator' is "
            f"{networks.depth_estimator!r}; expected a network of relative depth: depth-anything-vits14, "
            "depth-anything-vitb14 or depth-anything-vitl14"
        )
    return networks


def _check_stored_tokens(config, networks):
    # Runs from before there were such have no such key.
    place = config["data"].get("image_features", "")
    if not place:
        return
    if not networks.image_encoder:
        raise ConfigError(
            f"configuration key 'data.image_features' is {place!r}, but 'model.image_encoder' is "
            f"{OWN_ENCODER!r}, which is trained and has no tokens to store; expected ''"
        )
    if config["loss"]["contrastive"]:
        raise ConfigError(
            f"configuration key 'data.image_features' is {place!r}, but 'loss.contrastive' is on, whose "
            "second view of a clip has other pixels; expected loss.contrastive = 0, or no such folder"
        )


def _depth_estimator(config):
    model, resolution = config["model"], config["data"]["resolution"]
    name = model["depth_estimator"]
    check_choice("model.depth_estimator", name, ("", *(n for n in MODELS if n.startswith("depth-anything-"))))
    if not name:
        return ""
    if model["depth_input"] != "fuse":
        raise ConfigError(
            f"configuration key 'model.depth_estimator' is {name!r}, but 'model.depth_input' is "
            f"{model['depth_input']!r}, so that nothing reads its depth; expected 'fuse'"
        )
    patch = MODELS[name].module().encoder.patch
    if resolution % patch:
        raise ConfigError(
            f"configuration key 'data.resolution': {resolution} is not divisible by {patch}, the patch of "
            f"model.depth_estimator = {name!r}; the nearest is {max(round(resolution / patch), 1) * patch}"
        )
    return name


def _contrastive(config):
    contrastive = Contrastive(**config["contrastive"])
    check_range("contrastive.temperature", contrastive.temperature, 1e-4)
    check_range("contrastive.jitter", contrastive.jitter, 0.0, 0.99)
    check_range("contrastive.min_motion", contrastive.min_motion, 0.0, 1.0)
    if not config["loss"]["contrastive"]:
        return contrastive
    accumulation = config["optimizer"]["accumulation"]
    if accumulation > 1:
        raise ConfigError(
            f"configuration key 'loss.contrastive' is on, but 'optimizer.accumulation' is {accumulation}: "
            "clips in another part of the batch would be no negatives; expected 1"
        )
    windows = config["data"]["windows_per_episode"]
    if windows < 2 and not contrastive.other_episodes:
        raise ConfigError(
            f"configuration key 'loss.contrastive' is on, but 'data.windows_per_episode' is {windows}: "
            "negatives are other windows of the same episode; expected at least 2"
        )
    return contrastive


def _check_pyramid(model, num_frames):
    if not model["pyramid"]:
        return
    check_range("model.pyramid_every", model["pyramid_every"], 1, VARIANTS[model["variant"]]["encoder_depth"])
    try:
        check_dilations(model["pyramid"], num_frames)
    except ValueError as error:
        raise ConfigError(f"configuration key 'model.pyramid': {error}") from error


def _quantizer(config):
    quantizer, code_width = config["quantizer"], config["model"]["code_width"]
    check_choice("quantizer.name", quantizer["name"], NAMES)
    check_choice("quantizer.distance", quantizer["distance"], DISTANCES)
    check_range("quantizer.decay", quantizer["decay"], 0.0, 0.99999)
    check_range("quantizer.restart_below", quantizer["restart_below"], 0.0, 0.99)
    check_range("quantizer.warmup", quantizer["warmup"], 0.0, 1.0)
    check_range("quantizer.codebook_size", quantizer["codebook_size"], 2)
    if quantizer["name"] == "fsq":
        _check_levels(quantizer["levels"], code_width, quantizer["codebook_size"])
    return Quantizer(
        name=quantizer["name"],
        codebook_size=quantizer["codebook_size"],
        code_width=code_width,
        distance=quantizer["distance"],
        decay=quantizer["decay"],
        restart_below=quantizer["restart_below"],
        warmup_steps=round(quantizer["warmup"] * config["total_steps"]),
        levels=tuple(quantizer["levels"]) if quantizer["name"] == "fsq" else (),
    )


def _check_levels(levels, code_width, codebook_size):
    """The recorded configuration is to say what the codes are, so the sizes must be those of the levels."""
    if not levels:
        raise ConfigError("configuration key 'quantizer.levels' is empty, expected e.g. (8, 8) for 64 codes")
    for number in levels:
        check_range("quantizer.levels", number, 2)
    width, size = len(levels), finite_scalar.num_codes(levels)
    if (width, size) != (code_width, codebook_size):
        raise ConfigError(
            f"configuration key 'quantizer.levels': {tuple(levels)} are {width} channels and {size} codes, "
            f"but model.code_width = {code_width} and quantizer.codebook_size = {codebook_size}; "
            f"expected model.code_width = {width} and quantizer.codebook_size = {size}"
        )
