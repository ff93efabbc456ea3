"""Depth as input and as target, on scenes where texture and geometry say different things.

    python -m data_pipelines.builders.synthetic data --level screen
    python -m data_pipelines.builders.synthetic data --level bare
    farsighted bench compare --config configs/compare_spatial.py --seeds 0 1 2 --out runs/spatial

Half of the windows are of level `screen`, where a picture moves on a still plane (texture without geometry),
half of level `bare`, where everything is of nearly one colour and the actor is plain in depth alone (geometry
without texture).

  neither  no depth at all
  input    the encoder reads depth (model.depth_input = fuse)
  loss     the decoder predicts depth (loss.depth = 0.05)
  both

The depth that the encoder reads is disturbed (data.depth_noise: 10 % noise, half of it smooth, and a tenth
of the image missing); the target is not. So the encoder cannot read the target off its input. Depth errors
are those of the predicted frames; without the loss nothing has trained them. Equal compute: the same steps,
batch size and frames; what training took is in the table.
"""

import runpy
from pathlib import Path

from farsighted_jax.core.config import change

base = runpy.run_path(str(Path(__file__).with_name("lam_synthetic_hard.py")))["get_config"]

VARIANTS = {
    "neither": {"loss.depth": 0.0},
    "input": {"model.depth_input": "fuse", "loss.depth": 0.0},
    "loss": {},
    "both": {"model.depth_input": "fuse"},
}

COLUMNS = {
    "r2_screen": "mean latent_probe/synthetic_screen/r2/quantized/*/translation",
    "r2_bare": "mean latent_probe/synthetic_bare/r2/quantized/*/translation",
    "r2_screen_encoded": "mean latent_probe/synthetic_screen/r2/encoded/*/translation",
    "r2_bare_encoded": "mean latent_probe/synthetic_bare/r2/encoded/*/translation",
    "abs_rel": "mean reconstruction/depth_abs_rel/*",
    "abs_rel_copy": "mean reconstruction/depth_abs_rel_copy/*",
    "psnr_over_copy_db": "mean reconstruction/psnr_over_copy/*",
    "codebook_usage": "codebook/usage/all",
}


def claim(rows):
    """R2 of `both` is above that of `neither` in both scenes, its depth error at most that of `loss`."""
    both, neither, loss = rows["both"], rows["neither"], rows["loss"]
    above = all(both[name] > neither[name] for name in ("r2_screen", "r2_bare"))
    return above and both["abs_rel"] <= loss["abs_rel"]


def get_config(arg=None):
    """The configuration of one variant, `both` by default."""
    config = base()
    config.data.mixture = "synthetic_screen:0.5,synthetic_bare:0.5"
    config.data.depth_noise = 0.1
    config.eval.evaluators = ("reconstruction", "codebook", "latent_probe")
    config.eval.fit_batches = 24
    change(config, VARIANTS[arg or "both"])
    return config
