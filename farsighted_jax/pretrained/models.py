"""The table of networks whose weights can be converted and loaded by name.

A new one adds a file of name tables with its own `MODELS`, and a line here.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping

from farsighted_jax.pretrained import depth_anything, dinov2, lpips, t5, vgg
from farsighted_jax.pretrained.entry import PretrainedModel

MODELS: dict[str, PretrainedModel] = {
    **dinov2.MODELS,
    **depth_anything.MODELS,
    **t5.MODELS,
    **vgg.MODELS,
    **lpips.MODELS,
}


class UnknownModelError(ValueError):
    """No such name in the table; the message names the nearest."""


def model_named(name: str, models: Mapping[str, PretrainedModel] = MODELS) -> PretrainedModel:
    """The entry of a name.

    Raises:
      UnknownModelError: see there.
    """
    if name not in models:
        near = difflib.get_close_matches(name, models, n=1, cutoff=0.3)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise UnknownModelError(f"unknown model {name!r}{hint} (models: {', '.join(models)})")
    return models[name]
