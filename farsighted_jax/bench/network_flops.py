"""The arithmetic of pretrained networks on one image; what is counted says `bench.flops`."""

from __future__ import annotations

from farsighted_jax.encoders import vgg
from farsighted_jax.encoders.depth_anything import DepthAnything
from farsighted_jax.encoders.dinov2 import DinoV2
from farsighted_jax.encoders.dpt import FACTORS
from farsighted_jax.encoders.vit import swiglu_width

# rgb.
CHANNELS = 3


def dense(rows: int, inputs: int, outputs: int) -> int:
    """A matrix product."""
    return 2 * rows * inputs * outputs


def conv(size: int, inputs: int, outputs: int) -> int:
    """A 3x3 convolution that gives size x size cells; padding counts as if it were image."""
    return dense(size**2, 9 * inputs, outputs)


def image_encoder(network: DinoV2, resolution: int) -> int:
    """Forward pass of a DINOv2; resampling its positions, once a batch, is not counted."""
    E, N = network.width, (resolution // network.patch) ** 2
    S = 1 + network.num_registers + N
    if network.swiglu:
        mix = 3 * dense(S, E, swiglu_width(E, network.expansion))
    else:
        mix = 2 * dense(S, E, network.expansion * E)
    block = 4 * dense(S, E, E) + 2 * dense(S, E, S) + mix
    return dense(N, network.patch**2 * CHANNELS, E) + network.depth * block


def depth_estimator(network: DepthAnything, resolution: int) -> int:
    """Forward pass of a Depth Anything: its DINOv2 and the DPT head."""
    rows, E, D = resolution // network.encoder.patch, network.encoder.width, network.width
    total, sizes = image_encoder(network.encoder, resolution), []
    for channels, factor in zip(network.channels, FACTORS, strict=True):
        # Odd maps are halved upwards.
        size = -int(-rows * factor // 1)
        total += dense(rows**2, E, channels)
        if factor > 1:
            total += dense(rows**2, channels, factor**2 * channels)
        elif factor < 1:
            total += conv(size, channels, channels)
        total += conv(size, channels, D)
        sizes.append(size)
    for index, size in enumerate(sizes):
        # The coarsest level has nothing to be added to.
        units = 1 if index == len(sizes) - 1 else 2
        target = sizes[index - 1] if index else 2 * size
        total += units * 2 * conv(size, D, D) + resizing(size, target, D) + dense(target**2, D, D)
    total += conv(2 * sizes[0], D, D // 2) + resizing(2 * sizes[0], rows * network.encoder.patch, D // 2)
    return total + conv(resolution, D // 2, network.head_width) + dense(resolution**2, network.head_width, 1)


def resizing(size: int, target: int, channels: int) -> int:
    """A square map resized by one matrix for its rows and one for its columns."""
    return 0 if size == target else dense(channels * size * target, size + target, 1)


def perceptual_features(network: vgg.Vgg16Features, resolution: int) -> int:
    """Forward pass of a VGG16 up to its last features."""
    total, inputs, size = 0, CHANNELS, resolution
    for num_convolutions, width in zip(vgg.STAGES, network.widths, strict=True):
        for _ in range(num_convolutions):
            total += conv(size, inputs, width)
            inputs = width
        size //= 2
    return total
