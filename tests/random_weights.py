"""Random parameters without compiling a network's initialisation."""

import jax
import numpy as np

from farsighted_jax.core import tree


def random_variables(module, *inputs, scale=0.3, seed=0):
    """{"params": ...} of a module: normal numbers, scaled; around 1 where a name ends in "scale"."""
    rng = np.random.default_rng(seed)
    abstract = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]

    def values(path, leaf):
        draw = scale * rng.normal(size=leaf.shape)
        return (draw + path.endswith("scale")).astype(leaf.dtype)

    return {"params": tree.map_with_path(values, abstract)}
