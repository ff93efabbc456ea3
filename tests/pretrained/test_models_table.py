"""The table of convertible models: sizes as published, tables that fit, errors that name what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.pretrained.entry import check_config, converted_params, layout_name
from farsighted_jax.pretrained.models import MODELS, UnknownModelError, model_named
from farsighted_jax.pretrained.rename import ConversionError
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, spec_for

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "pretrained_models.json"

# Millions of parameters that the authors state. Theirs count what never runs: DINOv2's mask token, and in
# Depth Anything a residual unit of the coarsest level (two convolutions of the head's width).
PUBLISHED = {
    "dinov2-vits14": (22.06, 384),
    "dinov2-vitb14": (86.58, 768),
    "dinov2-vitl14": (304.37, 1024),
    "dinov2-vitg14": (1136.48, 1536),
    "depth-anything-vits14": (24.8, 384 + 2 * (9 * 64**2 + 64)),
    "depth-anything-vitb14": (97.5, 768 + 2 * (9 * 128**2 + 128)),
    "depth-anything-vitl14": (335.3, 1024 + 2 * (9 * 256**2 + 256)),
}


@pytest.fixture(scope="module")
def abstract():
    return {name: entry.abstract_params() for name, entry in MODELS.items()}


@pytest.fixture(scope="module")
def counts(abstract):
    return {name: tree.num_elements(params) for name, params in abstract.items()}


def test_parameter_counts_are_the_known_ones(counts, update_golden):
    if update_golden:
        GOLDEN.write_text(json.dumps(counts, indent=2) + "\n")
    assert counts == json.loads(GOLDEN.read_text())


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameter_counts_are_the_published_ones(counts, name):
    stated, unused = PUBLISHED[name]
    digits = len(str(stated).partition(".")[2])
    assert round((counts[name] + unused) / 1e6, digits) == stated


def test_registers_add_four_tokens(counts):
    for name, width in (("s", 384), ("b", 768), ("l", 1024), ("g", 1536)):
        assert counts[f"dinov2-vit{name}14-reg"] - counts[f"dinov2-vit{name}14"] == 4 * width


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_rule_in_every_layout(abstract, name):
    assert MODELS[name].layouts
    for layout in MODELS[name].layouts.values():
        assert set(tree.flat_paths(abstract[name])) <= {rule.target for rule in layout.rules}


@pytest.mark.parametrize("name", MODELS)
def test_every_parameter_has_a_place_on_a_mesh(abstract, name):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    for path, leaf in tree.flat_paths(abstract[name]).items():
        spec = spec_for(mesh, DEFAULT_RULES, path, leaf.shape)
        if path.endswith("kernel") and leaf.shape[-2] % 4 == 0:
            assert spec[-2] == ("fsdp", "tensor")


def test_parameters_may_be_bfloat16():
    abstract = model_named("depth-anything-vits14").abstract_params("bfloat16")
    assert {str(leaf.dtype) for leaf in tree.flat_paths(abstract).values()} == {"bfloat16"}


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(UnknownModelError, match="did you mean 'dinov2-vitb14'"):
        model_named("dinov2-vitb")


@pytest.mark.parametrize(
    ("name", "config", "words"),
    [
        ("depth-anything-vits14", {"depth_estimation_type": "metric"}, "'metric', expected 'relative'"),
        ("depth-anything-vits14-indoor", {"max_depth": 20}, "depth_estimation_type: None, expected 'metric'"),
        (
            "depth-anything-vits14-indoor",
            {"depth_estimation_type": "metric", "max_depth": 80},
            "max_depth: 80, expected 20.0",
        ),
        ("depth-anything-vits14-indoor", [1], "config.json: expected a JSON object"),
    ],
)
def test_weights_of_the_same_shapes_are_told_apart_by_their_configuration(tmp_path, name, config, words):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for weights in (tmp_path, tmp_path / "model.safetensors"):
        with pytest.raises(ConversionError, match=words):
            check_config(MODELS[name], weights)


def test_the_right_configuration_and_none_at_all_pass(tmp_path):
    check_config(MODELS["depth-anything-vits14-outdoor"], tmp_path)
    for name, config in (
        ("depth-anything-vits14", {"model_type": "depth_anything"}),
        ("depth-anything-vits14-outdoor", {"depth_estimation_type": "metric", "max_depth": 80}),
    ):
        (tmp_path / "config.json").write_text(json.dumps(config))
        check_config(MODELS[name], tmp_path)


def test_weights_of_nothing_we_know_list_the_layouts_and_first_names():
    with pytest.raises(ConversionError, match=r"no known layout.*huggingface.*torch_hub.*'conv1.weight'"):
        converted_params(MODELS["dinov2-vits14"], {"conv1.weight": np.zeros(3)})


def test_weights_of_two_layouts_are_refused():
    names = ("encoder.layer.0.attention.attention.query.bias", "blocks.0.attn.qkv.bias")
    with pytest.raises(ConversionError, match="huggingface and torch_hub"):
        layout_name(MODELS["dinov2-vits14"].layouts, dict.fromkeys(names, np.zeros(3)))
