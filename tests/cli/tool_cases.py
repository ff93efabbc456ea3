"""Sizes, configuration and random parameters of a tiny model for the tools."""

import json

import jax
import numpy as np

from farsighted_jax.checkpoint.manager import CheckpointStore
from farsighted_jax.cli.run import task_for, zero_batch
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


def write_lam_run(folder, config, statistics):
    """Writes a run folder as training leaves it, of random weights; depth counts as much as colour.

    The model reads depth and has so many codes that a small change of what is seen changes some.
    `VARIANTS` must have `VARIANT` as "tiny".
    """
    config.model.depth_input, config.model.num_keypoints = "fuse", 0
    config.quantizer.name, config.quantizer.levels = "fsq", (8, 8, 8)
    config.model.code_width, config.quantizer.codebook_size = 3, 512
    task = task_for(config)
    params, state = jax.eval_shape(task.init, jax.random.key(0), zero_batch(config))
    params, state = random_params(params), jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), state)
    params["depth_fusion"]["gate"] += 1
    store = CheckpointStore(folder, keep_last=1, keep_every=0, report=lambda text: None)
    store.save(1, {"params": params, "model_state": state}, {"config": config.to_dict()})
    store.close()
    (folder / "config.json").write_text(config_lib.to_json(config))
    (folder / "statistics.json").write_text(json.dumps(statistics))
    return folder


def random_params(shapes):
    """Parameters from numpy: compiling the model's own initialisation would take longer than all tests."""
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        name = path[-1].key
        # Kernels alone are large: what tells clips apart is the image, not a learned vector.
        scale = 2 * np.prod(shape.shape[-2:-1]) ** -0.5 if name == "kernel" else 0.05
        return (rng.normal(scale=scale, size=shape.shape) + (name == "scale")).astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)
