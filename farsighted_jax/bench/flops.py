"""The arithmetic of a LAM's training step, counted from its configuration.

Model FLOP utilisation is relative to this count, not to what a compiler makes
of the program. Counted are matrix products and convolutions, 2 m n k each;
attention has its scores and their application, over time too, where all T x T
are computed although half of them are masked. Not counted is what touches each
element a few times (norms, softmax, activations, the taps of the temporal
pyramid), the quantiser, the losses but LPIPS, and the optimizer.

A backward pass counts twice its forward pass, a frozen network has none. Of
LPIPS the prediction's half is passed backwards, to the image alone: as much
again. That the very first layer needs no gradient of its input is left out of
account, as is `optimizer.freeze`: parameters of the model itself count as trained.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from farsighted_jax.bench import network_flops
from farsighted_jax.bench.network_flops import CHANNELS, dense
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.lam.task import OWN_ENCODER
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.pretrained.perceptual import VGG


class PartFlops(NamedTuple):
    """Floating-point operations of one sample.

    Attributes:
      forward: of the forward pass.
      step: of the training step, the backward pass included.
    """

    forward: int
    step: int


def lam_flops(config: Mapping[str, Any]) -> dict[str, PartFlops]:
    """FLOPs of one sample by part, of a configuration that `lam.task.lam_task` accepts.

    Returns:
      "encoder" and "decoder", each with all of it that is trained; "frozen_encoder",
      the pretrained networks that the encoder reads, where there are any; "lpips"
      where that loss is on.
    """
    model, data, loss = config["model"], config["data"], config["loss"]
    num_frames, resolution = len(data["offsets_s"]) + 1, data["resolution"]
    # The contrastive loss encodes a second view of the clip.
    views = 2 if loss["contrastive"] else 1
    encoder = views * encoder_flops(model, num_frames, resolution)
    decoder = decoder_flops(model, num_frames - 1, resolution)
    if loss["feature"]:
        tokens = (num_frames - 1) * num_patches(model, resolution)
        decoder += dense(tokens, VARIANTS[model["variant"]]["width"], token_width(model))
    parts = {"encoder": PartFlops(encoder, 3 * encoder), "decoder": PartFlops(decoder, 3 * decoder)}
    frozen = views * num_frames * frozen_flops(model, resolution, bool(data.get("image_features")))
    if frozen:
        parts["frozen_encoder"] = PartFlops(frozen, frozen)
    if loss["lpips"]:
        picture = network_flops.perceptual_features(MODELS[VGG].module(), resolution)
        parts["lpips"] = PartFlops(2 * (num_frames - 1) * picture, 3 * (num_frames - 1) * picture)
    return parts


def frozen_flops(model: Mapping[str, Any], resolution: int, stored_tokens: bool = False) -> int:
    """Forward pass of the pretrained networks that the encoder reads, over one frame."""
    total = 0
    if model["image_encoder"] != OWN_ENCODER and not stored_tokens:
        total += network_flops.image_encoder(MODELS[model["image_encoder"]].module(), resolution)
    if model["depth_estimator"]:
        total += network_flops.depth_estimator(MODELS[model["depth_estimator"]].module(), resolution)
    return total


def token_width(model: Mapping[str, Any]) -> int:
    """E of the tokens that the encoder reads."""
    name = model["image_encoder"]
    return VARIANTS[model["variant"]]["width"] if name == OWN_ENCODER else MODELS[name].module().width


def encoder_flops(model: Mapping[str, Any], num_frames: int, resolution: int) -> int:
    """Forward pass of what is trained between the pixels of a clip and its codes."""
    sizes, Z, G = VARIANTS[model["variant"]], model["num_slots"], model["num_keypoints"]
    D, T, N = sizes["width"], num_frames, num_patches(model, resolution)
    E, own = token_width(model), model["image_encoder"] == OWN_ENCODER
    total = T * patch_encoder(E, model["patch"], CHANNELS, resolution) if own else 0
    if model["depth_input"] == "fuse":
        # Depth, and where it is known.
        total += T * patch_encoder(E, model["patch"], 2, resolution)
    total += dense(T * (Z + N), E, D)
    if G:
        # Logits and offsets, their mean positions; then from both coordinates into slot and code.
        total += dense(T * N, E, 3 * G) + 2 * dense(T * G, N, 2)
        total += dense(T, 2 * G, Z * D) + dense(T - 1, 2 * G, Z * model["code_width"])
    total += transformer(
        D, sizes["encoder_depth"], Z + N, T, True, tuple(model["pyramid"]), model["pyramid_every"]
    )
    return total + dense((T - 1) * Z, D, model["code_width"])


def decoder_flops(model: Mapping[str, Any], num_transitions: int, resolution: int) -> int:
    """Forward pass from frame 0 and the codes to all predicted frames and their depth, without tokens."""
    sizes, Z, U = VARIANTS[model["variant"]], model["num_slots"], model["code_width"]
    D, t, N, pixels = sizes["width"], num_transitions, num_patches(model, resolution), model["patch"] ** 2
    if model["frame_encoder"] == "linear":
        total = dense(N, CHANNELS * pixels, D)
    else:
        total = patch_encoder(D, model["patch"], CHANNELS, resolution)
    total += dense(t * Z, U, D) + dense(t, D, D)
    total += transformer(D, sizes["decoder_depth"], Z + N, t, False)
    if model["head"] == "pixels":
        return total + dense(t * N, D, (CHANNELS + 1) * pixels)
    # Shift of each slot by two ways, layers, paint with its weight, depth of layers and paint.
    total += dense(t * Z, D, 2) + dense(t * Z, U, 2)
    total += dense(t * N, D, (Z + CHANNELS + 1 + 2) * pixels)
    total += dense(resolution**2, CHANNELS, Z)
    # Every layer carries rgb, depth and weight, and is moved along both axes by a matrix.
    return total + 2 * t * Z * dense((CHANNELS + 2) * resolution, resolution, resolution)


def transformer(
    width: int,
    depth: int,
    num_tokens: int,
    num_frames: int,
    temporal: bool,
    pyramid: tuple[int, ...] = (),
    pyramid_every: int = 1,
) -> int:
    """Forward pass of a `layers.space_time.SpaceTimeTransformer` over the frames of one clip."""
    D, S, T = width, num_tokens, num_frames
    block = 4 * dense(T * S, D, D) + 2 * T * dense(S, D, S) + 2 * dense(T * S, D, 4 * D)
    if temporal:
        block += 4 * dense(T * S, D, D) + 2 * S * dense(T, D, T)
    num_pyramids = depth // pyramid_every if pyramid else 0
    return depth * block + num_pyramids * dense(T * S, D, D)


def patch_encoder(width: int, patch: int, channels: int, resolution: int) -> int:
    """Forward pass of an `encoders.patch.PatchEncoder` over one image."""
    cell, half = patch // 2, width // 2
    num_cells = (resolution // cell) ** 2
    total = dense(num_cells, cell**2 * channels, half) + dense(num_cells, 9 * half, half)
    return total + dense(num_cells // 4, 4 * half, width)


def num_patches(model: Mapping[str, Any], resolution: int) -> int:
    """N of a frame."""
    return (resolution // model["patch"]) ** 2
