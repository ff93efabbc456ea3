"""The table engine: strict both ways, all faults at once, fused and chunked names."""

import numpy as np
import pytest

from farsighted_jax.pretrained.rename import ConversionError, Rule, converted, part, transposed
from farsighted_jax.pretrained.rules import (
    conv_kernel,
    enlarging_kernel,
    first,
    fused,
    patch_kernel,
    pointwise_kernel,
)

RULES = (
    *fused("block.{i}.qkv", ("blocks/q", "blocks/k", "blocks/v")),
    *fused("block.{any}.{i}.qkv", ("blocks/q", "blocks/k", "blocks/v")),
    Rule("out.weight", "out/kernel", transposed),
    Rule("token", "token", first),
)
SHAPES = {f"blocks/{name}/kernel": (2, 5, 4) for name in "qkv"}
SHAPES |= {f"blocks/{name}/bias": (2, 4) for name in "qkv"} | {"out/kernel": (3, 2), "token": (7,)}


def weights(prefixes=("block.0", "block.1")):
    rng = np.random.default_rng(0)
    source = {"out.weight": rng.normal(size=(2, 3)), "token": rng.normal(size=(1, 7))}
    for prefix in prefixes:
        source[f"{prefix}.qkv.weight"] = rng.normal(size=(12, 5))
        source[f"{prefix}.qkv.bias"] = rng.normal(size=(12,))
    return source


@pytest.mark.parametrize("prefixes", [("block.0", "block.1"), ("block.0.0", "block.3.1")])
def test_a_fused_tensor_fills_its_targets_in_order(prefixes):
    source = weights(prefixes)
    found = converted(source, RULES, SHAPES)
    for layer, prefix in enumerate(prefixes):
        q, k, v = (found[f"blocks/{name}/kernel"][layer] for name in "qkv")
        np.testing.assert_array_equal(np.concatenate([q.T, k.T, v.T]), source[f"{prefix}.qkv.weight"])
        biases = [found[f"blocks/{name}/bias"][layer] for name in "qkv"]
        np.testing.assert_array_equal(np.concatenate(biases), source[f"{prefix}.qkv.bias"])


def test_every_fault_is_listed_at_once():
    source = weights()
    source["out.scale"] = np.zeros(3)
    source["token"] = np.zeros((2, 7))
    source["block.0.qkv.bias"] = np.zeros(11)
    source["block.1.qkv.weight"] = np.zeros((12, 6))
    source["block.7.1.qkv.bias"] = np.zeros(12)
    del source["out.weight"]
    with pytest.raises(ConversionError) as error:
        converted(source, RULES, SHAPES)
    text = str(error.value)
    for words in (
        "out.scale: no rule for this name",
        "token, shape [2, 7], for token: the leading axis should have size 1",
        "block.0.qkv.bias, shape [11], for blocks/q/bias: 11 rows are not 3 equal parts",
        "blocks/k/kernel: layers of different shapes [[5, 4], [6, 4]]",
        "block.7.1.qkv.bias: another name has filled blocks/v/bias already",
        "blocks/q/bias: layers [1], expected 0..0",
        "out/kernel: expected (3, 2), found nothing",
    ):
        assert words in text, f"{words}\n{text}"


def test_an_ignored_name_may_be_there_or_not():
    source = weights()
    without = converted(source, RULES, SHAPES, ignored=(r"^mask$",))
    with_it = converted({**source, "mask": np.zeros(2)}, RULES, SHAPES, ignored=(r"^mask$",))
    assert without.keys() == with_it.keys() == SHAPES.keys()


def test_part_takes_equal_parts():
    array = np.arange(12).reshape(6, 2)
    np.testing.assert_array_equal(part(1, 3)(array), array[2:4])
    np.testing.assert_array_equal(part(2, 3, transposed)(array), array[4:].T)


def test_convolutions_become_what_they_compute():
    rng = np.random.default_rng(0)
    weight, image = rng.normal(size=(5, 3, 2, 2)), rng.normal(size=(2, 2, 3))
    want = np.einsum("oihw,hwi->o", weight, image)
    np.testing.assert_allclose(image.reshape(-1) @ patch_kernel(weight), want)
    np.testing.assert_allclose(np.einsum("hwi,hwio->o", image, conv_kernel(weight)), want)
    pixel = rng.normal(size=(3,))
    point = rng.normal(size=(5, 3, 1, 1))
    np.testing.assert_allclose(pixel @ pointwise_kernel(point), point[:, :, 0, 0] @ pixel)
    transposed_weight = rng.normal(size=(3, 5, 2, 2))
    cells = (pixel @ enlarging_kernel(transposed_weight)).reshape(2, 2, 5)
    np.testing.assert_allclose(cells, np.einsum("i,iohw->hwo", pixel, transposed_weight))


@pytest.mark.parametrize("change", [patch_kernel, conv_kernel, pointwise_kernel, enlarging_kernel])
def test_a_matrix_is_no_convolution(change):
    with pytest.raises(ValueError, match="expected 4 axes"):
        change(np.zeros((3, 4)))


def test_a_wide_convolution_is_not_pointwise():
    with pytest.raises(ValueError, match="size 1 x 1"):
        pointwise_kernel(np.zeros((3, 4, 3, 3)))
