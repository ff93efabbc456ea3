"""A minute on 2 CPU cores: does everything work? Procedural scenes of level `easy`, 32 px.

    farsighted train --config configs/smoke.py --config.data.dir=DIR --workdir W

The numbers it ends with mean nothing; `lam_synthetic_hard.py` is the configuration to measure with.
"""

import runpy
from pathlib import Path

base = runpy.run_path(str(Path(__file__).with_name("lam_pretrain.py")))["get_config"]


def get_config(arg=None):
    """The configuration; takes no argument."""
    config = base("tiny")
    config.total_steps = 100
    config.log_every = 5
    config.batch_size = 8
    config.data.mixture = "synthetic_easy"
    config.data.resolution = 32
    config.checkpoint.every = 50
    config.eval.fit_batches = 8
    return config
