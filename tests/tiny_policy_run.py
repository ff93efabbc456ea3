"""A run folder of a policy as training leaves it, with random parameters in place of trained ones."""

import json

import jax
import numpy as np
from rlds_writer import write_rlds

from data_pipelines import text_features
from data_pipelines.stream import open_stream
from farsighted_jax.checkpoint.manager import CheckpointStore
from farsighted_jax.cli.policy_run import policy_zeros
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.spec import to_dict
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.frozen import frozen_lam
from farsighted_jax.policy.task import policy_task

STEP = 5
SHAPES = {"size": (12, 16), "depth": "png", "wrist": True}


def lam_config():
    config = config_lib.load("configs/lam_pretrain.py:tiny")
    config.data.resolution, config.data.offsets_s = 16, (0.2, 0.4)
    config.model.num_keypoints, config.model.unroll = 0, 1
    return config


def policy_config(data_dir):
    config = config_lib.load("configs/policy_finetune.py:tiny")
    config.lam = str(data_dir / "lam-run")
    config.data.dir, config.data.cache_dir, config.data.mixture = str(data_dir), str(data_dir), "tiny"
    config.data.resolution, config.data.offsets_s = 16, (0.2, 0.4)
    config.data.cameras, config.data.history_s = ("primary", "wrist"), (0.4,)
    config.data.text_length = 8
    config.model.depth_input, config.model.unroll = "fuse", 1
    config.flow.num_steps = 2
    return config


def sparse_params(shapes):
    """Few values, most of them 0, so that a folder of them is small; every input still counts."""
    rng = np.random.default_rng(0)

    def leaf(path, shape):
        draws = rng.random(shape.shape)
        sign = np.where(rng.random(shape.shape) < 0.5, -1, 1)
        return np.where(draws < 0.025, 0.5 * sign, float(path[-1].key == "scale")).astype(shape.dtype)

    return jax.tree_util.tree_map_with_path(leaf, shapes)


def write_policy_run(root, change=lambda config: None):
    """Writes a dataset and a run folder below `root`; returns the run folder."""
    write_rlds(root, "tiny", lengths={"train": (4,)}, shards=1, instruction="pick up the cup", **SHAPES)
    config = policy_config(root)
    change(config)
    lam, stream = lam_config(), open_stream(config.data, batch_size=3, seed=0)
    task = policy_task(config, frozen_lam(lam), stream.specs)
    params, _ = jax.eval_shape(task.init, jax.random.key(0), policy_zeros(config, task))
    weights = sparse_params({"params": params, "frozen": {PRETRAINED: task.pretrained_shapes()}})
    folder = root / "run"
    folder.mkdir()
    store = CheckpointStore(folder, keep_last=1, keep_every=0, report=lambda text: None)
    frozen = store.save_frozen(weights["frozen"]) if weights["frozen"][PRETRAINED] else ""
    documents = {"config": config.to_dict(), "statistics": stream.statistics, "data": {}}
    store.save(STEP, {"params": weights["params"]}, documents, frozen)
    store.close()
    lam.data.dir = str(root)
    described = {
        "config": lam.to_dict(),
        "statistics": {"tiny": {"depth": (0.1, 0.5)}},
        "step": 1,
        "digest": "0" * 64,
    }
    texts = {
        "config.json": config_lib.to_json(config),
        "statistics.json": json.dumps(stream.statistics),
        "specs.json": json.dumps([to_dict(spec) for spec in stream.specs.values()]),
        "lam.json": json.dumps(described),
    }
    if config.data.text_features:
        texts[text_features.ABOUT] = json.dumps(text_features.identity(config.data.text_features))
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder
