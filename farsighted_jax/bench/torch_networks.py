"""The frozen networks of the LAM in torch: DINOv2 and LPIPS, see `torch_lam`."""

from __future__ import annotations

from farsighted_jax.bench.torch_lam import Weights, attention, dense, norm, patchified

# Like those of `encoders.image_input`, `encoders.vit` and `losses.perceptual`, which need jax.
MEAN_RGB, STD_RGB, EPSILON = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1e-6
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


def dinov2(rgb_BTHWC, weights: Weights, num_heads: int, patch: int):
    """`encoders.dinov2.DinoV2` without registers: patch tokens float32[B, T, N, E], without gradient."""
    import torch
    import torch.nn.functional as F

    with torch.no_grad():
        pixels = (rgb_BTHWC - torch.tensor(MEAN_RGB)) / torch.tensor(STD_RGB)
        patches = patchified(pixels, patch)
        position_SE, grid = weights["positions"]["embedding"], patches.shape[2:4]
        x_BTNE = dense(patches, weights["patch_embedding"]).flatten(2, 3) + positions(position_SE[1:], grid)
        class_1E = weights["class_token"]["embedding"] + position_SE[:1]
        x_BTSE = torch.cat([class_1E.expand(*x_BTNE.shape[:2], 1, -1), x_BTNE], 2)
        for block in weights["blocks"]:
            normed = norm(x_BTSE, block["attention_norm"], EPSILON)
            x_BTSE = x_BTSE + attention(normed, block["attention"], num_heads) * block["attention_scale"]
            normed = norm(x_BTSE, block["mlp_norm"], EPSILON)
            hidden = dense(F.gelu(dense(normed, block["mlp"]["up"])), block["mlp"]["down"])
            x_BTSE = x_BTSE + hidden * block["mlp_scale"]
        return norm(x_BTSE, weights["norm"], EPSILON)[:, :, 1:]


def positions(position_NE, grid: tuple[int, int]):
    """Learned positions of a square grid for another one, row by row."""
    import torch.nn.functional as F

    side = round(len(position_NE) ** 0.5)
    if (side, side) == tuple(grid):
        return position_NE
    position_1EYX = position_NE.view(1, side, side, -1).permute(0, 3, 1, 2)
    return F.interpolate(position_1EYX, size=tuple(grid), mode="bicubic")[0].flatten(1).T


def features(rgb_BCHW, weights: Weights):
    """`encoders.vgg.Vgg16Features`: the last activations of each stage, float32[B, E, Y, X]."""
    import torch.nn.functional as F

    x, taps = rgb_BCHW, []
    for stage in range(1, 6):
        if stage > 1:
            x = F.max_pool2d(x, 2)
        for index in range(1, 4):
            if f"conv{stage}_{index}" in weights:
                convolution = weights[f"conv{stage}_{index}"]
                x = F.relu(F.conv2d(x, convolution["weight"], convolution["bias"], padding=1))
        taps.append(x)
    return taps


def perceptual_distance(predicted_BtHWC, target_BtHWC, vgg: Weights, linear: Weights):
    """LPIPS of each predicted frame, float32[B, t], differentiable."""
    import torch

    predicted, target = (
        features(_normalized(rgb_BtHWC).flatten(0, 1).permute(0, 3, 1, 2), vgg)
        for rgb_BtHWC in (predicted_BtHWC, target_BtHWC)
    )
    total_B = 0.0
    for stage, (first, second) in enumerate(zip(predicted, target, strict=True), start=1):
        square = (_unit_length(first) - _unit_length(second)) ** 2
        weighted = torch.einsum("BEYX,E->BYX", square, linear[f"stage{stage}_scale"])
        total_B = total_B + weighted.mean((1, 2))
    return total_B.view(predicted_BtHWC.shape[:2])


def _normalized(rgb):
    import torch

    return (2 * rgb - 1 - torch.tensor(SHIFT)) / torch.tensor(SCALE)


def _unit_length(feature_BEYX):
    import torch

    square = (feature_BEYX**2).sum(1, keepdim=True)
    length = torch.where(square > 0, square, 1.0).sqrt()
    return torch.where(square > 0, feature_BEYX / (length + 1e-10), 0.0)
