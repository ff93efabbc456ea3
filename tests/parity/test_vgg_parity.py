"""VGG16 features and LPIPS against torch, through the converter.

torchvision and the `lpips` package are too heavy to install for a test, so both
are stated again here from their papers' layout, with names as theirs.
"""

import functools

import jax
import numpy as np
import pytest
from reference import assert_close, random_rgb, randomised, required, state

from farsighted_jax.encoders.vgg import LpipsWeights, Vgg16Features
from farsighted_jax.losses.perceptual import lpips
from farsighted_jax.pretrained import lpips as lpips_table
from farsighted_jax.pretrained import vgg
from farsighted_jax.pretrained.entry import PretrainedModel, converted_params

pytestmark = pytest.mark.parity

WIDTHS = (3, 5, 4, 6, 7)
STAGES = (2, 2, 3, 3, 3)
B, T, H, W = 2, 3, 37, 34
VGG = PretrainedModel(
    module=functools.partial(Vgg16Features, widths=WIDTHS),
    inputs=(jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32),),
    layouts=vgg.LAYOUTS,
)
LINEAR = PretrainedModel(
    module=functools.partial(LpipsWeights, widths=WIDTHS),
    inputs=(),
    layouts=lpips_table.LAYOUTS,
)


@functools.cache
def reference_network():
    """VGG16 with few channels: `features` numbered as torchvision does, and a classifier."""
    torch, _ = required()
    layers, taps, before = [], [], 3
    for width, num_convolutions in zip(WIDTHS, STAGES, strict=True):
        for _ in range(num_convolutions):
            layers += [torch.nn.Conv2d(before, width, 3, padding=1), torch.nn.ReLU()]
            before = width
        taps.append(len(layers) - 1)
        layers.append(torch.nn.MaxPool2d(2, 2))
    network = torch.nn.Module()
    network.features = torch.nn.Sequential(*layers)
    network.classifier = torch.nn.Sequential(torch.nn.Linear(7, 9))
    return randomised(network), taps


@functools.cache
def linear_weights():
    """The linear layers as the package's file has them."""
    rng = np.random.default_rng(0)
    return {
        f"lin{index}.model.1.weight": rng.uniform(size=(1, width, 1, 1)).astype(np.float32)
        for index, width in enumerate(WIDTHS)
    }


def reference_taps(pixels_BCHW):
    network, taps = reference_network()
    kept = []
    for index, layer in enumerate(network.features):
        pixels_BCHW = layer(pixels_BCHW)
        if index in taps:
            kept.append(pixels_BCHW)
    return kept


def reference_lpips(first_BCHW, second_BCHW):
    """LPIPS of images within [-1, 1], one number an image."""
    torch, _ = required()
    shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
    scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
    pairs = zip(
        *(reference_taps((image - shift) / scale) for image in (first_BCHW, second_BCHW)), strict=True
    )
    total_B = 0
    for (first, second), weight in zip(pairs, linear_weights().values(), strict=True):
        first, second = (x / (x.square().sum(dim=1, keepdim=True).sqrt() + 1e-10) for x in (first, second))
        weighted = torch.nn.functional.conv2d((first - second) ** 2, torch.from_numpy(weight))
        total_B = total_B + weighted.mean(dim=(1, 2, 3))
    return total_B


def channels_first(rgb_BtHWC):
    torch, _ = required()
    return torch.from_numpy(rgb_BtHWC.reshape(-1, *rgb_BtHWC.shape[-3:]).transpose(0, 3, 1, 2).copy())


@functools.cache
def vgg_params():
    params, layout = converted_params(VGG, state(reference_network()[0]))
    assert layout == "torchvision"
    return params


def test_every_tap_equals_the_reference():
    pixels = np.random.default_rng(1).normal(size=(B, H, W, 3)).astype(np.float32)
    found = jax.jit(VGG.module().apply)({"params": vgg_params()}, pixels)
    with required()[0].no_grad():
        want = reference_taps(channels_first(pixels))
    for found_BYXE, want_BEYX in zip(found, want, strict=True):
        assert_close(np.asarray(found_BYXE), want_BEYX.numpy().transpose(0, 2, 3, 1))


def test_lpips_and_its_gradient_equal_the_reference():
    linear_params, _ = converted_params(LINEAR, linear_weights())
    linear = LINEAR.module().apply({"params": linear_params})

    @functools.partial(jax.value_and_grad, has_aux=True)
    def total(predicted, target, params):
        apply = lambda params, rgb: VGG.module().apply({"params": params}, rgb)  # noqa: E731
        loss_Bt = lpips(predicted, target, apply, params, linear)
        return loss_Bt.sum(), loss_Bt

    predicted, target = random_rgb(B, T, H, W), random_rgb(B, T, H, W, seed=1)
    (_, found_Bt), found_gradient = jax.jit(total)(predicted, target, vgg_params())
    image = channels_first(predicted).requires_grad_()
    want = reference_lpips(2 * image - 1, 2 * channels_first(target) - 1)
    want.sum().backward()
    assert_close(np.asarray(found_Bt), want.detach().numpy().reshape(B, T))
    want_gradient = image.grad.numpy().transpose(0, 2, 3, 1).reshape(predicted.shape)
    assert_close(np.asarray(found_gradient), want_gradient)
