"""Pretrained networks small enough for tests, with random weights that are written on purpose."""

import functools

import jax
import numpy as np
from random_weights import random_variables

from farsighted_jax.checkpoint import digest
from farsighted_jax.encoders.depth_anything import DepthAnything
from farsighted_jax.encoders.dinov2 import DinoV2
from farsighted_jax.encoders.t5 import T5Encoder
from farsighted_jax.encoders.vgg import LpipsWeights, Vgg16Features
from farsighted_jax.pretrained import folder
from farsighted_jax.pretrained.entry import PretrainedModel
from farsighted_jax.pretrained.models import MODELS

PATCH, TOKEN_WIDTH, TEXT_WIDTH = 4, 6, 10
_WIDTHS = (2, 3, 4, 5, 6)
_DINOV2 = functools.partial(DinoV2, width=TOKEN_WIDTH, depth=2, num_heads=2, patch=PATCH, grid=3)
# As many words as `tiny_tokenizer` has pieces.
_T5 = functools.partial(
    T5Encoder, width=TEXT_WIDTH, ff_width=7, depth=2, num_heads=2, head_width=3, gated=False, vocabulary=14
)
_TEXT = (jax.ShapeDtypeStruct((1, 2), np.int32), jax.ShapeDtypeStruct((1, 2), np.bool_))


def _depth_anything(max_depth_m, **changes):
    encoder = DinoV2(width=4, depth=4, num_heads=2, patch=PATCH, grid=3, **changes)
    return DepthAnything(encoder, (1, 2, 3, 4), (2, 3, 4, 5), 6, 3, max_depth_m)


def _image(size):
    return (jax.ShapeDtypeStruct((1, size, size, 3), np.float32),)


TINY = {
    "dinov2-tiny": PretrainedModel(_DINOV2, _image(PATCH), {}),
    "depth-anything-tiny": PretrainedModel(functools.partial(_depth_anything, None), _image(PATCH), {}),
    "depth-anything-tiny-indoor": PretrainedModel(
        functools.partial(_depth_anything, 20.0), _image(PATCH), {}
    ),
    "t5-tiny": PretrainedModel(_T5, _TEXT, {}),
    "vgg16": PretrainedModel(functools.partial(Vgg16Features, widths=_WIDTHS), _image(16), {}),
    "lpips-vgg16": PretrainedModel(functools.partial(LpipsWeights, widths=_WIDTHS), (), {}),
}


def use_tiny_networks(patch):
    """Puts them into the table of all models, until the MonkeyPatch `patch` is undone."""
    for name, entry in TINY.items():
        patch.setitem(MODELS, name, entry)


def random_network(name, seed=0):
    """Random parameters of a network of the table."""
    return random_variables(MODELS[name].module(), *MODELS[name].inputs, seed=seed)["params"]


def write_network(name, seed=0):
    """Writes random weights to where a network of the table is looked for; returns the folder."""
    params, place = random_network(name, seed), folder.default_folder(name)
    digests = digest.content_digests(params)
    about = {"model": name, "dtype": "float32", "digest": digest.tree_digest(digests), "source": "random"}
    folder.write(place, params, digests, about)
    return place
