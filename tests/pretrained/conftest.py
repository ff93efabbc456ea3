"""A table of one tiny model with weights in the hub's layout."""

import functools

import jax
import numpy as np
import pytest
from hub_weights import torch_hub_weights
from safetensors_writer import write_safetensors

from farsighted_jax.encoders.dinov2 import DinoV2
from farsighted_jax.pretrained import dinov2
from farsighted_jax.pretrained.entry import PretrainedModel


@pytest.fixture(scope="session")
def models():
    """A table with "tiny"."""
    module = functools.partial(DinoV2, width=4, depth=2, num_heads=2, patch=2, grid=3)
    image = jax.ShapeDtypeStruct((1, 2, 2, 3), np.float32)
    return {"tiny": PretrainedModel(module, (image,), dinov2.LAYOUTS, repository="someone/tiny")}


@pytest.fixture(scope="session")
def weights_file(tmp_path_factory):
    """Weights of "tiny" as a safetensors file."""
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    write_safetensors(path, torch_hub_weights())
    return path
