"""Several keyframes against one pair: what the codes hold when frames lie up to eight times as far apart.

    python -m data_pipelines.builders.synthetic data --level long
    farsighted bench compare --config configs/compare_temporal.py --seeds 0 1 2 --out runs/temporal

Level `long`: 80 frames at 5 Hz. Every variant is trained up to the same gap g = 1.6 s (8 frames) and tested
at m = 1, 2, 4, 8 times its offsets, so up to 12.8 s, on the same windows. The probe reads the codes of the
last transition; its target is the action summed over [0, m g].

  pair     {0, g}
  full     {0, g/3, 2g/3, g}, each to the nearest frame
  strong   {0, s g}, s drawn from 1..8 for every training window: the pair that has seen far gaps
  pyramid  {0, g/8, ..., g}, nine dense frames, with a temporal pyramid of dilations 1, 2 and 4

Equal compute: the same number of steps, and 24 transitions a step for everyone (batch size times keyframes
after the first), as the decoder sees each transition separately. Frame 0 is encoded once a sample, so the
pairs encode more frames: a step costs them about 1.4 times the processor time of `full`, and the pyramid 0.9
times. Where compute is not equal it favours the pairs; what training took is in the table.
`farsighted train --config configs/compare_temporal.py:pair` trains one variant.
"""

import runpy
from pathlib import Path

from farsighted_jax.core.config import change

base = runpy.run_path(str(Path(__file__).with_name("lam_synthetic_hard.py")))["get_config"]

VARIANTS = {
    "pair": {"data.offsets_s": (1.6,), "batch_size": 24},
    "full": {"data.offsets_s": (0.6, 1.0, 1.6), "batch_size": 8},
    "strong": {
        "data.offsets_s": (1.6,),
        "data.offset_scales": (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0),
        "batch_size": 24,
    },
    "pyramid": {
        "data.offsets_s": (0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6),
        "batch_size": 3,
        "model.pyramid": (1, 2, 4),
    },
}

MULTIPLES = (1, 2, 4, 8)
R2 = "gap_robustness/*/r2/{}/quantized/{}/translation"

COLUMNS = {
    **{f"r2_m{m}": R2.format("fitted_per_gap", m) for m in MULTIPLES},
    "loss_m8": (R2.format("fitted_per_gap", 1), R2.format("fitted_per_gap", 8)),
    "r2_m8_fitted_at_m1": R2.format("fitted_at_1", 8),
    "r2_m8_two_frames": "gap_robustness/*/r2/fitted_per_gap/two_frames/8/translation",
    "delta_psnr_m1_db": "gap_robustness/*/delta_psnr/1",
    "delta_psnr_m8_db": "gap_robustness/*/delta_psnr/8",
}

GAPS = "gap_robustness/*/gap_s/*"
CURVES = {
    "probe fitted at each gap": (GAPS, R2.format("fitted_per_gap", "*")),
    "probe fitted at the trained gap": (GAPS, R2.format("fitted_at_1", "*")),
}


def claim(rows):
    """R2 of `full` at m = 1 is at least that of `pair`, and at m = 8 it loses less than half as much."""
    full, pair = rows["full"], rows["pair"]
    return full["r2_m1"] >= pair["r2_m1"] and full["loss_m8"] < 0.5 * pair["loss_m8"]


def get_config(arg=None):
    """The configuration of one variant, `full` by default."""
    config = base()
    config.data.mixture = "synthetic_long"
    config.data.whole_windows = True
    config.eval.evaluators = ("codebook", "gap_robustness")
    config.eval.gap_multiples = MULTIPLES
    config.eval.fit_batches = 24
    config.eval.gap_batches = 24
    change(config, VARIANTS[arg or "full"])
    return config
