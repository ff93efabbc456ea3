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

from farsighted_jax.encoders import dinov2, vgg
from farsighted_jax.encoders.vit import swiglu_width
from farsighted_jax.lam.model import VARIANTS

# rgb.
CHANNELS = 3


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
      "encoder" and "decoder", each with all of it that is trained; "frozen_encoder"
      where the image encoder is a DINOv2; "lpips" where that loss is on.
    """
    model, data, loss = config["model"], config["data"], config["loss"]
    num_frames, resolution = len(data["offsets_s"]) + 1, data["resolution"]
    # The contrastive loss encodes a second view of the clip.
    views = 2 if loss.get("contrastive") else 1
    encoder = views * encoder_flops(model, num_frames, resolution)
    decoder = decoder_flops(model, num_frames - 1, resolution)
    parts = {"encoder": PartFlops(encoder, 3 * encoder), "decoder": PartFlops(decoder, 3 * decoder)}
    if model["image_encoder"] != "patch":
        frozen = views * num_frames * vision_transformer(frozen_sizes(model["image_encoder"]), resolution)
        parts["frozen_encoder"] = PartFlops(frozen, frozen)
    if loss.get("lpips"):
        picture = vgg_features(resolution)
        parts["lpips"] = PartFlops(2 * (num_frames - 1) * picture, 3 * (num_frames - 1) * picture)
    return parts


def encoder_flops(model: Mapping[str, Any], num_frames: int, resolution: int) -> int:
    """Forward pass of what is trained between the pixels of a clip and its codes."""
    sizes, Z, G = VARIANTS[model["variant"]], model["num_slots"], model["num_keypoints"]
    D, T, N = sizes["width"], num_frames, num_patches(model, resolution)
    frozen = model["image_encoder"] != "patch"
    E = frozen_sizes(model["image_encoder"])["width"] if frozen else D
    total = 0 if frozen else T * patch_encoder(E, model["patch"], CHANNELS, resolution)
    if model["depth_input"] == "fuse":
        # Depth, and where it is known.
        total += T * patch_encoder(E, model["patch"], 2, resolution)
    total += dense(T * (Z + N), E, D)
    if G:
        # Logits and mean position; then from both coordinates into slot and code.
        total += dense(T * N, E, G) + dense(T * G, N, 2)
        total += dense(T, 2 * G, Z * D) + dense(T - 1, 2 * G, Z * model["code_width"])
    total += transformer(
        D, sizes["encoder_depth"], Z + N, T, True, tuple(model["pyramid"]), model["pyramid_every"]
    )
    return total + dense((T - 1) * Z, D, model["code_width"])


def decoder_flops(model: Mapping[str, Any], num_transitions: int, resolution: int) -> int:
    """Forward pass from frame 0 and the codes to all predicted frames and their depth."""
    sizes, Z, U = VARIANTS[model["variant"]], model["num_slots"], model["code_width"]
    D, t, N, pixels = sizes["width"], num_transitions, num_patches(model, resolution), model["patch"] ** 2
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


def dense(rows: int, inputs: int, outputs: int) -> int:
    """A matrix product."""
    return 2 * rows * inputs * outputs


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
    cell = patch // 2
    num_cells = (resolution // cell) ** 2
    total = dense(num_cells, cell**2 * channels, width // 2) + dense(num_cells, 9 * (width // 2), width)
    return total + dense(num_cells // 4, 4 * width, width)


def frozen_sizes(name: str) -> Mapping[str, Any]:
    """An entry of `dinov2.VARIANTS` by its name in the table of models, e.g. "dinov2-vitb14-reg"."""
    return dinov2.variant_sizes(dinov2.VARIANTS, name.removeprefix("dinov2-").replace("-", "_"))


def vision_transformer(sizes: Mapping[str, Any], resolution: int, patch: int = dinov2.DinoV2.patch) -> int:
    """Forward pass of a DINOv2 over one image; positions are resampled once a batch and not counted."""
    E, N = sizes["width"], (resolution // patch) ** 2
    S = 1 + sizes.get("num_registers", 0) + N
    if sizes.get("swiglu"):
        mix = 3 * dense(S, E, swiglu_width(E, dinov2.DinoV2.expansion))
    else:
        mix = 2 * dense(S, E, dinov2.DinoV2.expansion * E)
    block = 4 * dense(S, E, E) + 2 * dense(S, E, S) + mix
    return dense(N, patch**2 * CHANNELS, E) + sizes["depth"] * block


def vgg_features(resolution: int) -> int:
    """Forward pass of `encoders.vgg.Vgg16Features` over one image."""
    total, inputs, size = 0, CHANNELS, resolution
    for num_convolutions, width in zip(vgg.STAGES, vgg.WIDTHS, strict=True):
        for _ in range(num_convolutions):
            total += dense(size**2, 9 * inputs, width)
            inputs = width
        size //= 2
    return total


def num_patches(model: Mapping[str, Any], resolution: int) -> int:
    """N of a frame."""
    return (resolution // model["patch"]) ** 2
