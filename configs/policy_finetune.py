"""SSM-VLA with actions: next keyframe, latent plan and flow-matching actions, from robot data with text.

    farsighted train --config configs/policy_finetune.py:tiny --config.init=W2 \
        --config.data.dir=DIR --config.data.mixture=bridge_dataset --workdir W3

`init` is the run folder of `configs/policy_pretrain.py` of the same variant, whose latent action model comes
along; without it, `--config.lam=W1` starts from scratch. A mixture that holds video without actions trains
both jointly: such samples teach the next keyframe and the plan alone. Arguments are those of
`policy_pretrain.py`, and so is what they need.

Fewer parameters: `--config.optimizer.freeze="('^backbone/',)"` trains the rest alone, with
`--config.model.adapter_rank=8` low-rank adapters of what is frozen besides.
"""

import runpy
from pathlib import Path

base = runpy.run_path(str(Path(__file__).with_name("policy_pretrain.py")))["get_config"]


def get_config(arg=None):
    """The configuration of one variant; see the module."""
    config = base(arg)
    config.task = "policy_finetune"
    config.total_steps = 300 if config.model.variant == "tiny" else 50_000
    config.model.action = True
    config.eval.evaluators = ("action_error", "plan_accuracy", "imagined_frame")
    return config
