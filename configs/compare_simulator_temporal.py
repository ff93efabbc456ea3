"""Several keyframes against one pair, on episodes of a simulator: `compare_temporal.py` with a robot in it.

    farsighted rollout record --variant noisy --tasks drawer-open door-open button-press-topdown \
        --episodes 24 --val 6 --steps 150 --resolution 64 --cameras primary --out data
    farsighted bench compare --config configs/compare_simulator_temporal.py --seeds 0 1 2 --out runs/simulator

Meta-World, 150 frames at 80 Hz, the scripted experts with noise. Columns, claim and what is equal are those
of `compare_temporal.py`, for `pair` and `full`, which the claim is about, with an eighth of its times
(g = 0.2 s, 16 frames, tested up to 1.6 s) and in 300 steps, since a cell is to take 5 minutes. The probe's
target is the commanded motion of the hand in three dimensions, in cm; the robot lags behind it, and stops at
what it touches, so that no code can tell all of it.
"""

import runpy
from pathlib import Path

from farsighted_jax.core.config import change

temporal = runpy.run_path(str(Path(__file__).with_name("compare_temporal.py")))
COLUMNS, CURVES, claim = temporal["COLUMNS"], temporal["CURVES"], temporal["claim"]

VARIANTS = {
    "pair": {"data.offsets_s": (0.2,), "batch_size": 24},
    "full": {"data.offsets_s": (0.0625, 0.1375, 0.2), "batch_size": 8},
}


def get_config(arg=None):
    """The configuration of one variant, `full` by default."""
    config = temporal["get_config"]()
    config.data.mixture = "metaworld_noisy"
    config.total_steps = config.checkpoint.every = 300
    change(config, VARIANTS[arg or "full"])
    return config
