"""Sizes, configuration and random parameters of a tiny model for the tools."""

import jax
import numpy as np

from farsighted_jax.core import config as config_lib

LENGTHS = {"train": (9, 5, 1, 4), "val": (6, 3)}
FPS, SIZE = 5.0, 24
# Smaller than any shipped variant, for the compiler's sake.
VARIANT = {"width": 8, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2}


def tool_config(data_dir):
    config = config_lib.load("configs/lam_pretrain.py:tiny")
    config.data.dir, config.data.mixture = str(data_dir), "tiny"
    config.data.resolution, config.data.offsets_s = 16, (0.2, 0.6)
    config.data.readers = 2
    config.model.head, config.model.unroll = "pixels", 1
    config.model.num_slots, config.model.code_width = 3, 5
    config.quantizer.name, config.quantizer.codebook_size = "ema", 7
    config.eval.batch_size = 4
    return config


def random_params(shapes):
    """Parameters from numpy: compiling the model's own initialisation would take longer than all tests."""
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        name = path[-1].key
        # Kernels alone are large: what tells clips apart is the image, not a learned vector.
        scale = 2 * np.prod(shape.shape[-2:-1]) ** -0.5 if name == "kernel" else 0.05
        return (rng.normal(scale=scale, size=shape.shape) + (name == "scale")).astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)
