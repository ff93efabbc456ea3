"""The LAM once more, in torch, to measure the training step beside; needs the package `torch`.

The same arithmetic in the way it is written for torch: one projection for queries, keys and values,
`scaled_dot_product_attention`, parameters of each block apart. Functions of parameters, as `torch_weights`
makes them of those of the flax model, so that both compute the same from the same numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

# Like those of `lam.encoder`, `layers.positions` and `layers.space_time`, which need jax.
TIME_UNIT_S, LONGEST_PERIOD, GRID_PERIOD, EPSILON = 0.05, 10_000.0, 100.0, 1e-5

# Parameters of a part by name, tensors or again parts; blocks are a list.
Weights = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Sizes:
    """What the shapes of parameters do not say.

    Attributes:
      num_heads: A.
      patch: pixels a patch.
      pyramid: dilations of the temporal pyramid.
      frozen_heads: attention heads of the frozen image encoder.
    """

    num_heads: int
    patch: int
    pyramid: tuple[int, ...] = ()
    frozen_heads: int = 0


def dense(x, weights: Weights):
    """A linear map of the last axis."""
    import torch.nn.functional as F

    return F.linear(x, weights["weight"], weights.get("bias"))


def norm(x, weights: Weights, epsilon: float = EPSILON):
    """Layer norm of the last axis."""
    import torch.nn.functional as F

    return F.layer_norm(x, x.shape[-1:], weights["weight"], weights["bias"], epsilon)


def attention(x_BTSD, weights: Weights, num_heads: int, over_time: bool = False):
    """Self-attention within each frame, or causally over the frames of each token; same shape."""
    import torch.nn.functional as F

    B, T, S, D = x_BTSD.shape
    qkv = dense(x_BTSD, weights["qkv"]).view(B, T, S, 3, num_heads, D // num_heads)
    if over_time:
        q, k, v = qkv.permute(3, 0, 2, 4, 1, 5).flatten(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        out = out.view(B, S, num_heads, T, -1).permute(0, 3, 1, 2, 4)
    else:
        q, k, v = qkv.permute(3, 0, 1, 4, 2, 5).flatten(1, 2)
        out = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    return dense(out.reshape(B, T, S, D), weights["out"])


def block(x_BTSD, weights: Weights, num_heads: int):
    """`layers.space_time.SpaceTimeBlock`."""
    import torch.nn.functional as F

    x_BTSD = x_BTSD + attention(norm(x_BTSD, weights["space_norm"]), weights["space"], num_heads)
    if "time" in weights:
        x_BTSD = x_BTSD + attention(norm(x_BTSD, weights["time_norm"]), weights["time"], num_heads, True)
    hidden = F.gelu(dense(norm(x_BTSD, weights["mlp_norm"]), weights["mlp"]["up"]), approximate="tanh")
    return x_BTSD + dense(hidden, weights["mlp"]["down"])


def pyramid(x_BTSD, weights: Weights, dilations: tuple[int, ...]):
    """`layers.temporal_pyramid.TemporalPyramid`."""
    import torch.nn.functional as F

    T, total = x_BTSD.shape[1], 0.0
    for taps_3D, dilation in zip(weights["taps"], dilations, strict=True):
        for tap, weight_D in enumerate(taps_3D):
            delay = min(tap * dilation, T)
            total = total + weight_D * F.pad(x_BTSD[:, : T - delay], (0, 0, 0, 0, delay, 0))
    return dense(total, weights["project"])


def transformer(x_BTSD, weights: Weights, sizes: Sizes):
    """`layers.space_time.SpaceTimeTransformer`."""
    for group in weights.get("groups", ()):
        for each in group["blocks"]:
            x_BTSD = block(x_BTSD, each, sizes.num_heads)
        x_BTSD = x_BTSD + pyramid(norm(x_BTSD, group["pyramid_norm"]), group["pyramid"], sizes.pyramid)
    for each in weights.get("blocks", ()):
        x_BTSD = block(x_BTSD, each, sizes.num_heads)
    return x_BTSD


def patchified(image_BHWC, patch: int):
    """`layers.patches.patchify`, keeping rows and columns: float[..., Y, X, patch * patch * C]."""
    *lead, H, W, C = image_BHWC.shape
    cut = image_BHWC.reshape(-1, H // patch, patch, W // patch, patch, C).transpose(2, 3)
    return cut.reshape(*lead, H // patch, W // patch, patch * patch * C)


def image(patches_BNF, size: tuple[int, int], patch: int):
    """`layers.patches.unpatchify`: float[..., N, patch * patch * C] -> float[..., H, W, C]."""
    rows, columns = size[0] // patch, size[1] // patch
    cut = patches_BNF.reshape(-1, rows, columns, patch, patch, patches_BNF.shape[-1] // patch**2)
    return cut.transpose(2, 3).reshape(*patches_BNF.shape[:-2], *size, cut.shape[-1])


def frame_tokens(rgb_BTHWC, weights: Weights, patch: int):
    """`encoders.patch.PatchEncoder` or, where it has but one map, `LinearPatches`."""
    import torch.nn.functional as F

    centred = rgb_BTHWC - 0.5
    if "embed" in weights:
        return dense(patchified(centred, patch), weights["embed"]).flatten(-3, -2)
    x = F.gelu(dense(patchified(centred, patch // 2), weights["cell"]), approximate="tanh")
    x_BCYX = x.flatten(0, -4).permute(0, 3, 1, 2)
    x_BCYX = F.conv2d(x_BCYX, weights["mix"]["weight"], weights["mix"]["bias"], padding=1)
    x = F.gelu(x_BCYX.permute(0, 2, 3, 1), approximate="tanh").view(x.shape)
    return dense(patchified(x, 2), weights["merge"]).flatten(-3, -2)


def sinusoid(value, width: int, period: float = LONGEST_PERIOD):
    """`layers.positions.sinusoid`: float32[...] -> float32[..., width]."""
    import torch

    rate = period ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angle = value[..., None] * rate.float()
    return torch.stack([angle.sin(), angle.cos()], -1).flatten(-2)


def grid_position(rows: int, columns: int, width: int):
    """`layers.positions.sinusoid_2d`, float32[rows * columns, width]."""
    import torch

    row_YD, column_XD = (sinusoid(torch.arange(num), width // 2, GRID_PERIOD) for num in (rows, columns))
    row_YXD = row_YD[:, None].expand(rows, columns, -1)
    return torch.cat([row_YXD, column_XD.expand(rows, columns, -1)], -1).flatten(0, 1)


def encoded(tokens_BTNE, time_s_BT, grid: tuple[int, int], weights: Weights, sizes: Sizes):
    """`lam.encoder.SpaceTimeEncoder`: image tokens -> float32[B, t, Z, U]."""
    import torch
    import torch.nn.functional as F

    queries_TZE = weights["queries"]
    Z = queries_TZE.shape[1]
    x_BTSE = torch.cat([queries_TZE.expand(len(tokens_BTNE), -1, -1, -1), tokens_BTNE], 2)
    x_BTSD = norm(dense(norm(x_BTSE, weights["input_norm"]), weights["input"]), weights["width_norm"])
    width = x_BTSD.shape[-1]
    space_SD = F.pad(grid_position(*grid, width), (0, 0, Z, 0))
    x_BTSD = x_BTSD + space_SD + sinusoid(time_s_BT / TIME_UNIT_S, width)[:, :, None]
    slots_BtZD = transformer(x_BTSD, weights["transformer"], sizes)[:, 1:, :Z]
    return dense(slots_BtZD, weights["to_code"])


def decoded(rgb_BHWC, quantized_BtZU, time_s_Bt, weights: Weights, sizes: Sizes):
    """`lam.decoder.SpatialDecoder` with the head "pixels".

    Returns:
      float32[B, t, H, W, C] rgb and float32[B, t, H, W, 1] depth.
    """
    import torch

    size = tuple(rgb_BHWC.shape[1:3])
    t, Z = quantized_BtZU.shape[1:3]
    frame_B1ND = frame_tokens(rgb_BHWC[:, None], weights["frame"], sizes.patch)
    width = frame_B1ND.shape[-1]
    frame_B1ND = frame_B1ND + grid_position(size[0] // sizes.patch, size[1] // sizes.patch, width)
    code_BtZD = dense(quantized_BtZU, weights["from_code"]) + weights["slots"]
    step_BtD = dense(sinusoid(time_s_Bt / TIME_UNIT_S, width), weights["step"])
    x_BtSD = torch.cat([code_BtZD, frame_B1ND.expand(-1, t, -1, -1)], 2) + step_BtD[:, :, None]
    x_BtSD = norm(transformer(x_BtSD, weights["transformer"], sizes), weights["output_norm"])
    heads = (dense(x_BtSD[:, :, Z:], weights[name]) for name in ("rgb_head", "depth_head"))
    return tuple(image(patches, size, sizes.patch) for patches in heads)
