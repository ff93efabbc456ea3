"""Depth Anything V2 against transformers, level by level, through the converter."""

import functools
import re

import jax
import numpy as np
import pytest
from reference import assert_close, jitted_output, random_rgb, randomised, required, state
from torch_hub_layout import torch_hub_names

from farsighted_jax.encoders.depth_anything import DepthAnything
from farsighted_jax.encoders.dinov2 import DinoV2
from farsighted_jax.encoders.image_input import normalized_rgb
from farsighted_jax.pretrained import depth_anything, safetensors_file
from farsighted_jax.pretrained.entry import PretrainedModel, converted_params

pytestmark = pytest.mark.parity

PATCH, GRID = 4, (5, 3)
LAYERS, CHANNELS, WIDTH, HEAD_WIDTH = (1, 2, 4, 5), (5, 7, 9, 11), 6, 13


@functools.cache
def reference_network(kind):
    _, transformers = required()
    backbone = transformers.Dinov2Config(
        hidden_size=24,
        num_hidden_layers=5,
        num_attention_heads=3,
        patch_size=PATCH,
        image_size=PATCH * 4,
        out_indices=list(LAYERS),
        reshape_hidden_states=False,
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone,
        patch_size=PATCH,
        reassemble_hidden_size=24,
        neck_hidden_sizes=list(CHANNELS),
        fusion_hidden_size=WIDTH,
        head_hidden_size=HEAD_WIDTH,
        depth_estimation_type=kind,
        max_depth=20 if kind == "metric" else 1,
    )
    network = randomised(transformers.DepthAnythingForDepthEstimation(config))
    # So that the last ReLU cuts some of the map and not all of it.
    pixels = reference_pixels(random_rgb(2, GRID[0] * PATCH, GRID[1] * PATCH))
    torch, _ = required()
    with torch.no_grad():
        captured = []
        hook = network.head.conv3.register_forward_hook(lambda *event: captured.append(event[2]))
        network(pixels)
        hook.remove()
        network.head.conv3.bias -= captured[0].median()
    return network


def reference_pixels(rgb):
    torch, _ = required()
    return torch.from_numpy(np.array(normalized_rgb(rgb).transpose(0, 3, 1, 2)))


def entry(kind):
    def module(**changes):
        encoder = DinoV2(24, 5, 3, PATCH, 4, **changes)
        return DepthAnything(
            encoder, LAYERS, CHANNELS, WIDTH, HEAD_WIDTH, max_depth_m=20.0 if kind == "metric" else None
        )

    shape = jax.ShapeDtypeStruct((1, PATCH, PATCH, 3), np.float32)
    return PretrainedModel(module=module, inputs=(shape,), layouts=depth_anything.LAYOUTS)


@pytest.mark.parametrize("kind", ["relative", "metric"])
def test_depth_equals_the_reference(kind, tmp_path):
    torch, _ = required()
    network = reference_network(kind)
    network.save_pretrained(tmp_path)
    params, layout = converted_params(entry(kind), safetensors_file.read(tmp_path))
    assert layout == "huggingface"
    rgb = random_rgb(2, GRID[0] * PATCH, GRID[1] * PATCH)
    depth, out = jitted_output(entry(kind).module(), params, rgb)
    pixels = reference_pixels(rgb)
    with torch.no_grad():
        maps = network.backbone(pixels).feature_maps
        fused = network.neck(list(maps), *GRID)
        want = network(pixels).predicted_depth.numpy()
    for found, wanted in zip(out["layers"], maps, strict=True):
        assert_close(found, wanted)
    for found, wanted in zip(out["fused"][::-1], fused, strict=True):
        assert_close(found, wanted.permute(0, 2, 3, 1).numpy())
    assert_close(depth[..., 0], want)
    if kind == "relative":
        assert 0.2 < (want > 0).mean() < 0.8
    else:
        assert want.min() < 8 and want.max() > 12


def authors_names(source):
    """A hub file's arrays under the names of the authors' files."""
    backbone = {
        name.removeprefix("backbone."): array for name, array in source.items() if "backbone." in name
    }
    result = {f"pretrained.{name}": array for name, array in torch_hub_names(backbone).items()}
    head = {
        r"neck\.reassemble_stage\.layers\.(\d)\.projection": "depth_head.projects.{0}",
        r"neck\.reassemble_stage\.layers\.(\d)\.resize": "depth_head.resize_layers.{0}",
        r"neck\.convs\.(\d)": "depth_head.scratch.layer{1}_rn",
        r"neck\.fusion_stage\.layers\.(\d)\.projection": "depth_head.scratch.refinenet{2}.out_conv",
        r"neck\.fusion_stage\.layers\.(\d)\.residual_layer(\d)\.convolution(\d)": (
            "depth_head.scratch.refinenet{2}.resConfUnit{3}.conv{4}"
        ),
        r"head\.conv1": "depth_head.scratch.output_conv1",
        r"head\.conv2": "depth_head.scratch.output_conv2.0",
        r"head\.conv3": "depth_head.scratch.output_conv2.2",
    }
    for name, array in source.items():
        layer, _, kind = name.rpartition(".")
        for pattern, theirs in head.items():
            if match := re.fullmatch(pattern, layer):
                groups = match.groups() or ("0",)
                index = int(groups[0])
                result[f"{theirs.format(index, index + 1, 4 - index, *groups[1:])}.{kind}"] = array
    assert len(result) == len(source) - 2 * 2 * 5
    return result


def test_every_layout_gives_the_same_parameters(tmp_path):
    network = reference_network("relative")
    network.save_pretrained(tmp_path)
    source = safetensors_file.read(tmp_path)
    want, _ = converted_params(entry("relative"), source)
    for name, arrays in (("transformers5", state(network)), ("torch_hub", authors_names(source))):
        found, layout = converted_params(entry("relative"), arrays)
        assert layout == name
        jax.tree.map(np.testing.assert_array_equal, found, want)
