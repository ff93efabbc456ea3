"""The table of convertible models: sizes as published, tables that fit, errors that name what is wrong."""

import json
from pathlib import Path

import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.pretrained.entry import converted_params, layout_name
from farsighted_jax.pretrained.models import MODELS, UnknownModelError, model_named
from farsighted_jax.pretrained.rename import ConversionError

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


def test_parameters_may_be_bfloat16():
    abstract = model_named("depth-anything-vits14").abstract_params("bfloat16")
    assert {str(leaf.dtype) for leaf in tree.flat_paths(abstract).values()} == {"bfloat16"}


def test_an_unknown_model_names_the_nearest():
    with pytest.raises(UnknownModelError, match="did you mean 'dinov2-vitb14'"):
        model_named("dinov2-vitb")


def test_weights_of_nothing_we_know_list_the_layouts_and_first_names():
    with pytest.raises(ConversionError, match=r"no known layout.*huggingface.*torch_hub.*'conv1.weight'"):
        converted_params(MODELS["dinov2-vits14"], {"conv1.weight": np.zeros(3)})


def test_weights_of_two_layouts_are_refused():
    names = ("encoder.layer.0.attention.attention.query.bias", "blocks.0.attn.qkv.bias")
    with pytest.raises(ConversionError, match="huggingface and torch_hub"):
        layout_name(MODELS["dinov2-vits14"].layouts, dict.fromkeys(names, np.zeros(3)))
