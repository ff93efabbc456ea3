"""DINOv2 against transformers, layer by layer, through the converter."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import assert_close, jitted_output, random_rgb, randomised, required, state
from torch_hub_layout import torch_hub_names

from farsighted_jax.encoders.dinov2 import DinoV2
from farsighted_jax.encoders.image_input import normalized_rgb
from farsighted_jax.pretrained import dinov2, safetensors_file
from farsighted_jax.pretrained.entry import PretrainedModel, converted_params

pytestmark = pytest.mark.parity

# Every axis has its own size: E 24, A 3, K 8, F 96, depth 4, patch 2, grid 5, registers 3.
SIZES = {"width": 24, "depth": 4, "num_heads": 3, "patch": 2, "grid": 5}
CASES = {
    "plain": ({}, (4, 7)),
    "plain at its own grid": ({}, (5, 5)),
    "registers": ({"num_registers": 3}, (4, 7)),
    "swiglu": ({"swiglu": True}, (6, 3)),
    "swiglu with registers": ({"num_registers": 3, "swiglu": True}, (3, 4)),
}


def reference_network(sizes):
    _, transformers = required()
    options = {
        "hidden_size": sizes["width"],
        "num_hidden_layers": sizes["depth"],
        "num_attention_heads": sizes["num_heads"],
        "patch_size": sizes["patch"],
        "image_size": sizes["patch"] * sizes["grid"],
        "use_swiglu_ffn": sizes.get("swiglu", False),
    }
    if registers := sizes.get("num_registers"):
        config = transformers.Dinov2WithRegistersConfig(**options, num_register_tokens=registers)
        return randomised(transformers.Dinov2WithRegistersModel(config))
    return randomised(transformers.Dinov2Model(transformers.Dinov2Config(**options)))


def entry(sizes):
    return PretrainedModel(
        module=functools.partial(DinoV2, **sizes),
        inputs=(jax.ShapeDtypeStruct((1, sizes["patch"], sizes["patch"], 3), np.float32),),
        layouts=dinov2.LAYOUTS,
    )


def reference_layers(network, rgb):
    """Normed tokens after every block."""
    torch, _ = required()
    pixels = torch.from_numpy(np.array(normalized_rgb(rgb).transpose(0, 3, 1, 2)))
    with torch.no_grad():
        states = network(pixels, output_hidden_states=True).hidden_states
        return [network.layernorm(hidden).numpy() for hidden in states[1:]]


@pytest.mark.parametrize("case", CASES)
def test_every_layer_equals_the_reference(case, tmp_path):
    changes, grid = CASES[case]
    sizes = SIZES | changes
    network = reference_network(sizes)
    network.save_pretrained(tmp_path)
    params, layout = converted_params(entry(sizes), safetensors_file.read(tmp_path))
    assert layout == "huggingface"
    rgb = random_rgb(2, grid[0] * sizes["patch"], grid[1] * sizes["patch"])
    layers = tuple(range(1, sizes["depth"] + 1))
    patches, out = jitted_output(DinoV2(**sizes), params, rgb, layers=layers)
    want = reference_layers(network, rgb)
    for found, wanted in zip(out["layers"], want, strict=True):
        assert_close(found, wanted)
    first = 1 + sizes.get("num_registers", 0)
    assert_close(patches, want[-1][:, first:])
    assert_close(out["class"], want[-1][:, 0])
    np.testing.assert_array_equal(out["registers"], out["layers"][-1][:, 1:first])


@pytest.mark.parametrize(
    ("changes", "chunks"), [({}, None), ({"swiglu": True, "num_registers": 3}, None), ({}, 2)]
)
def test_every_layout_gives_the_same_parameters(changes, chunks, tmp_path):
    sizes = SIZES | changes
    network = reference_network(sizes)
    network.save_pretrained(tmp_path)
    source = safetensors_file.read(tmp_path)
    sources = {
        "huggingface": source,
        "transformers5": state(network),
        "torch_hub": torch_hub_names(source, chunks),
    }
    results = {}
    for name, arrays in sources.items():
        results[name], layout = converted_params(entry(sizes), arrays)
        assert layout == name
    for name in ("transformers5", "torch_hub"):
        jax.tree.map(np.testing.assert_array_equal, results[name], results["huggingface"])


def test_bfloat16_stays_near_float32(tmp_path):
    sizes = SIZES | {"num_registers": 3}
    params, _ = converted_params(entry(sizes), state(reference_network(sizes)), jnp.bfloat16)
    rgb = random_rgb(2, 8, 14)
    exact, _ = jitted_output(DinoV2(**sizes), jax.tree.map(np.float32, params), rgb)
    module = DinoV2(**sizes, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    rough, _ = jitted_output(module, params, rgb)
    assert rough.dtype == jnp.bfloat16
    assert_close(rough.astype(np.float32), exact, tolerance=0.05)


@pytest.mark.parametrize(("rows", "columns"), [(4, 9), (16, 13)])
def test_the_offset_of_the_authors_is_that_of_torch(rows, columns):
    torch, _ = required()
    position = np.random.default_rng(0).normal(size=(5, 5, 7)).astype(np.float32)
    scale = tuple((size + 0.1) / 5 for size in (rows, columns))
    want = torch.nn.functional.interpolate(
        torch.from_numpy(position).permute(2, 0, 1)[None], scale_factor=scale, mode="bicubic"
    )
    module = DinoV2(**{**SIZES, "width": 7, "position_offset": 0.1})
    found = module._positions(jnp.asarray(position.reshape(25, 7)), rows, columns)
    assert_close(np.asarray(found).reshape(rows, columns, 7), want[0].permute(1, 2, 0).numpy())


@pytest.mark.slow
def test_full_size_vit_b(tmp_path):
    sizes = {"width": 768, "depth": 12, "num_heads": 12, "patch": 14, "grid": 37}
    network = reference_network(sizes)
    network.save_pretrained(tmp_path)
    params, _ = converted_params(entry(sizes), safetensors_file.read(tmp_path))
    rgb = random_rgb(1, 16 * 14, 15 * 14)
    layers = tuple(range(1, 13))
    _, out = jitted_output(DinoV2(**sizes), params, rgb, layers=layers)
    for found, wanted in zip(out["layers"], reference_layers(network, rgb), strict=True):
        assert_close(found, wanted)
