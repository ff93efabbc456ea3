"""Sizes of the T5 and VGG16 variants, at full size and without a weight in memory."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.encoders import t5
from farsighted_jax.encoders.vgg import Vgg16Features

GOLDEN = Path(__file__).parents[1] / "golden" / "text_and_vgg_sizes.json"


def abstract_params(name):
    if name == "vgg16":
        return jax.eval_shape(Vgg16Features().init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    texts = np.zeros((1, 4), np.int32), np.ones((1, 4), bool)
    return jax.eval_shape(t5.T5Encoder(**t5.VARIANTS[name]).init, jax.random.key(0), *texts)


NAMES = [*t5.VARIANTS, "vgg16"]


@pytest.fixture(scope="module")
def sizes():
    return {name: tree.num_elements(abstract_params(name)) for name in NAMES}


def test_parameter_counts_are_the_known_ones(sizes, update_golden):
    if update_golden:
        GOLDEN.write_text(json.dumps(sizes, indent=2) + "\n")
    assert sizes == json.loads(GOLDEN.read_text())


def test_parameter_counts_are_the_published_ones(sizes):
    published = {"t5_base": 109.63e6, "t5_v1_1_xxl": 4.762e9, "vgg16": 14_714_688}
    assert {name: pytest.approx(count, rel=1e-4) for name, count in published.items()} == {
        name: sizes[name] for name in published
    }
