"""Sizes of the T5 and VGG16 variants, at full size and without a weight in memory."""

import pytest

from farsighted_jax.core import tree
from farsighted_jax.pretrained import lpips, t5, vgg
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.sharding.rules import DEFAULT_RULES, state_shardings

MODELS = {**t5.MODELS, **vgg.MODELS, **lpips.MODELS}


@pytest.fixture(scope="module")
def abstract():
    return {name: model.abstract_params() for name, model in MODELS.items()}


@pytest.fixture(scope="module")
def sizes(abstract):
    return {name: tree.num_elements(params) for name, params in abstract.items()}


def test_text_and_vgg_sizes_are_the_published_ones(sizes):
    # Encoders with their embedding; VGG16 without its classifier; LPIPS 64 + 128 + 256 + 512 + 512.
    published = {"t5-base": 109.63e6, "t5-v1_1-xxl": 4.76e9, "vgg16": 14_714_688, "lpips-vgg16": 1_472}
    assert {name: pytest.approx(count, rel=1e-3) for name, count in published.items()} == {
        name: sizes[name] for name in published
    }


def test_every_matrix_is_spread_over_a_mesh(abstract):
    mesh = make_mesh({"data": 2, "fsdp": 2, "tensor": 2})
    for name in ("t5-v1_1-xxl", "vgg16", "lpips-vgg16"):
        shardings = tree.flat_paths(state_shardings(mesh, DEFAULT_RULES, abstract[name]))
        whole = {path for path, sharding in shardings.items() if sharding.is_fully_replicated}
        # The kernel of the first convolution takes 3 channels.
        assert all(path.endswith(("scale", "bias", "conv1_1/kernel")) for path in whole)
