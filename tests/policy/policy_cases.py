"""A tiny policy whose sizes all differ, and random inputs for it."""

import dataclasses

import jax
import numpy as np

from farsighted_jax.policy.backbone import Backbone
from farsighted_jax.policy.context import Context, flat_context
from farsighted_jax.policy.layout import Layout

LAYOUT = Layout(
    language=3,
    frames=2,
    views=2,
    grid=(1, 2),
    proprio=1,
    vision_grid=(1, 2),
    transitions=2,
    slots=2,
    chunk=3,
)
WIDTH = 16


def backbone(layout=LAYOUT, **sizes):
    return Backbone(layout, **{"width": WIDTH, "depth": 2, "num_heads": 2, **sizes})


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def random_context(B=2, layout=LAYOUT, seed=0, **fields):
    N = layout.grid[0] * layout.grid[1]
    full = Context(
        normal(seed, B, layout.language, WIDTH),
        normal(seed + 1, B, layout.frames, layout.views, N, WIDTH),
        normal(seed + 2, B, layout.proprio, WIDTH),
    )
    return full._replace(**fields)


def random_codes(B=2, layout=LAYOUT, seed=3):
    return normal(seed, B, layout.num_codes, WIDTH)


def visible_params(params, seed=9):
    """Every parameter random and of a size that shows: no bias, norm or gate hides a path."""
    leaves, tree = jax.tree.flatten(params)
    rng = np.random.default_rng(seed)
    return tree.unflatten([leaf + 0.1 * rng.normal(size=leaf.shape).astype(np.float32) for leaf in leaves])


def smaller(**sizes):
    return dataclasses.replace(LAYOUT, **sizes)


def filled_context(context, layout=LAYOUT):
    """With every validity spelled out."""
    B, T, P = len(context.language), layout.frames, layout.views
    shapes = {"language_valid": (B, layout.language), "frame_valid": (B, T, P), "proprio_valid": (B, 1)}
    ones = {name: np.ones(shape, bool) for name, shape in shapes.items() if getattr(context, name) is None}
    return context._replace(**ones)


def split_context(context):
    """Its floats and its validity, as two dicts: one to differentiate by, one not."""
    fields = filled_context(context)._asdict()
    valid = {name: fields.pop(name) for name in list(fields) if name.endswith("_valid")}
    return fields, valid


def output_sum(model, params, parts, codes, weights, valid, code_valid, plan_hidden):
    """A number that depends on every hidden state of the groups whose weight is not 0; see `split_context`.

    Of the context those of valid tokens alone: nobody reads the others.
    """
    context = Context(**parts, **valid)
    hidden = model.apply(params, context, codes, code_valid, plan_hidden)
    valid_BS = flat_context(context, model.layout, model.width)[1]
    read = {**hidden, "context": hidden["context"] * valid_BS[..., None]}
    direction_D = normal(5, model.width)
    return sum((weights[group] * (part @ direction_D)).sum() for group, part in read.items())
