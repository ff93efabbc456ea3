"""The contrastive loss on and off: its default weight follows what this measures.

    python -m data_pipelines.builders.synthetic data --level hard
    farsighted bench compare --config configs/compare_contrastive.py --seeds 0 1 2 --out runs/contrastive

  off  loss.contrastive = 0
  on   loss.contrastive = 0.1

Both see two windows of an episode in a batch, which the loss needs for its negatives. Equal steps and
samples; `on` encodes every clip twice, an advantage that the minutes in the table show.
"""

import runpy
from pathlib import Path

from farsighted_jax.core.config import change

base = runpy.run_path(str(Path(__file__).with_name("lam_synthetic_hard.py")))["get_config"]

VARIANTS = {"off": {}, "on": {"loss.contrastive": 0.1}}

COLUMNS = {
    "r2": "mean latent_probe/*/r2/quantized/*/translation",
    "r2_worst": "min latent_probe/*/r2/quantized/*/translation",
    "r2_encoded": "mean latent_probe/*/r2/encoded/*/translation",
    "psnr_over_copy_db": "min reconstruction/psnr_over_copy/*",
    "psnr_over_shuffled_db": "min reconstruction/psnr_over_shuffled/*",
    "codebook_usage": "codebook/usage/all",
}


def claim(rows):
    """The contrastive loss raises the probe's R2 over the codes, mean over horizons."""
    return rows["on"]["r2"] > rows["off"]["r2"]


def get_config(arg=None):
    """The configuration of one variant, `off` by default."""
    config = base()
    config.data.windows_per_episode = 2
    config.eval.evaluators = ("reconstruction", "codebook", "latent_probe")
    config.eval.fit_batches = 24
    change(config, VARIANTS[arg or "off"])
    return config
