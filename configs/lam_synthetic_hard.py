"""Farsighted-LAM on the procedural scenes of level `hard`: what the codes are worth, measured.

    python -m data_pipelines.builders.synthetic data --level hard
    farsighted bench lam --config configs/lam_synthetic_hard.py --seeds 0 1 2 --out runs/hard

Hardware: 2 CPU cores, under 5 minutes a seed.
"""

import runpy
from pathlib import Path

base = runpy.run_path(str(Path(__file__).with_name("lam_pretrain.py")))["get_config"]


def get_config(arg=None):
    """The configuration; takes no argument."""
    config = base("tiny")
    config.total_steps = 700
    config.log_every = 20
    config.batch_size = 8
    config.data.mixture = "synthetic_hard"
    config.loss.depth = 0.05
    config.loss.commit = 0.02
    config.quantizer.codebook_size = 64
    config.quantizer.distance = "cosine"
    config.optimizer.learning_rate = 2e-3
    config.optimizer.final_learning_rate = 4e-5
    config.checkpoint.every = 500
    config.eval.batch_size = 32
    return config
