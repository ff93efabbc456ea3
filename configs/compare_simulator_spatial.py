"""Depth as input and as target, on episodes of a simulator: `compare_spatial.py` with a robot in it.

    farsighted rollout record --variant noisy --tasks drawer-open door-open button-press-topdown \
        --episodes 24 --val 6 --steps 150 --resolution 64 --cameras primary --out data
    farsighted bench compare --config configs/compare_simulator_spatial.py --seeds 0 1 2 --out runs/simulator

The data of `compare_simulator_temporal.py`, keyframes up to 0.2 s, 300 steps; variants and depth
noise of `compare_spatial.py`. The probe's target is the commanded motion of the hand, in cm.
"""

import runpy
from pathlib import Path

spatial = runpy.run_path(str(Path(__file__).with_name("compare_spatial.py")))
VARIANTS = spatial["VARIANTS"]

COLUMNS = {
    "r2": "mean latent_probe/*/r2/quantized/*/translation",
    "r2_encoded": "mean latent_probe/*/r2/encoded/*/translation",
    "r2_frame0": "mean latent_probe/*/r2/frame0/*/translation",
    **{
        name: spatial["COLUMNS"][name]
        for name in ("abs_rel", "abs_rel_copy", "psnr_over_copy_db", "codebook_usage")
    },
}


def claim(rows):
    """R2 of `both` is above that of `neither`, and its depth error at most that of `loss`."""
    both, neither, loss = rows["both"], rows["neither"], rows["loss"]
    return both["r2"] > neither["r2"] and both["abs_rel"] <= loss["abs_rel"]


def get_config(arg=None):
    """The configuration of one variant, `both` by default."""
    config = spatial["get_config"](arg)
    config.data.mixture = "metaworld_noisy"
    config.total_steps = config.checkpoint.every = 300
    config.data.offsets_s = (0.0625, 0.1375, 0.2)
    return config
