import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from random_weights import random_variables

from farsighted_jax.encoders.errors import EncoderError
from farsighted_jax.encoders.vgg import Vgg16Features

WIDTHS = (2, 3, 4, 5, 6)


@pytest.fixture(scope="module")
def network():
    module = Vgg16Features(WIDTHS)
    image = np.random.default_rng(0).normal(size=(2, 37, 34, 3)).astype(np.float32)
    return module, random_variables(module, image), image


def test_taps_stand_before_each_pooling(network):
    module, params, image = network
    taps = jax.jit(module.apply)(params, image)
    assert [tap.shape for tap in taps] == [
        (2, 37, 34, 2),
        (2, 18, 17, 3),
        (2, 9, 8, 4),
        (2, 4, 4, 5),
        (2, 2, 2, 6),
    ]
    assert all((np.asarray(tap) >= 0).all() for tap in taps)


def test_half_precision_runs_in_half_precision(network):
    module, params, image = network
    shapes = jax.eval_shape(Vgg16Features(WIDTHS, dtype=jnp.bfloat16).apply, params, image)
    assert {tap.dtype for tap in shapes} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize("shape", [(2, 15, 34, 3), (34, 34, 3), (2, 34, 34, 4)])
def test_an_image_of_another_shape_is_refused(network, shape):
    module, params, _ = network
    with pytest.raises(EncoderError, match=rf"16x16.*{re.escape(str(list(shape)))}"):
        module.apply(params, np.zeros(shape, np.float32))
