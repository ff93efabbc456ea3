"""With parameters in parts on the axis fsdp, devices send each other parameters and no activations."""

import pytest

from farsighted_jax.cli.run import task_for
from farsighted_jax.cli.untrained import sample_batch
from farsighted_jax.core import config as config_lib
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.plan import planner
from farsighted_jax.plan.topology import topology

BYTES_OF_FLOAT = 4


@pytest.mark.slow  # a minute of compiling on a busy machine
def test_activations_stay_where_they_are(monkeypatch):
    small = {"width": 32, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2}
    monkeypatch.setitem(VARIANTS, "tiny", small)
    config = config_lib.load("configs/lam_pretrain.py:tiny")
    config.batch_size, config.data.resolution, config.data.offsets_s = 64, 32, (0.2, 0.4)
    config.model.head, config.model.unroll, config.model.num_keypoints = "pixels", 1, 0
    config.model.patch, config.mesh.fsdp = 8, 8
    task = task_for(config)
    plan = planner.run(
        task, config, sample_batch(config, task), topology("h100:8", 1), flops_per_sample=1, report=print
    )
    sent = sum(kind["gib"] for kind in plan["collectives"].values())
    # Parameters for the pass and again for its gradient, the gradients' sum. Activations, which XLA
    # gathers if nobody says where they lie, would be twenty times as much.
    assert 0 < sent < 5 * plan["params"] * BYTES_OF_FLOAT / 2**30
