"""MT50 of Meta-World: one policy for 50 tasks, 50 demonstrations each, 400 steps an episode.

    bash launch/metaworld_mt50.sh                  the whole recipe, one camera
    bash launch/metaworld_mt50.sh --wrist          two cameras
    bash launch/metaworld_mt50.sh --ten-minutes    everything within ten minutes of one datacentre GPU with
                                                   16 CPU cores, recording included

The protocol is the field's: groups of 28 easy, 11 medium, 6 hard and 5 very hard tasks, "Avg" is the mean of
their means, seeds of the evaluation are no demonstration's. The policy gets camera, hand and gripper
(`obs[:4]`) and one of 50 sentences, never the positions of objects.

Stages are those of the demo, as `STAGE` or `STAGE+wrist`, `STAGE+ten_minutes`:

  lam, pretrain, finetune   latent actions from images and depth, the plan from images and text, then actions
  scratch                   the control: the same policy without latent actions, plan and pretraining, on the
                            same demonstrations, with as many more steps as pretraining has

The whole recipe is of size `base` at 224 px and reads frozen networks (see `lam_pretrain.py` and
`policy_pretrain.py` for the commands that convert them); `ten_minutes` is of size `small` at 96 px with an
image encoder of its own and needs no downloads. Neither has been run to its end: no accelerator was at hand.
How the ten minutes were counted stands beside TEN_MINUTES.
"""

import runpy
from pathlib import Path

from farsighted_jax.core.config import check_choice


def _config_of(name):
    return runpy.run_path(str(Path(__file__).with_name(name)))["get_config"]


FILES = {
    "lam": "lam_pretrain.py",
    "pretrain": "policy_pretrain.py",
    "finetune": "policy_finetune.py",
    "scratch": "policy_finetune.py",
}
OPTIONS = ("wrist", "ten_minutes")

STEPS = {"lam": 20_000, "pretrain": 20_000, "finetune": 30_000, "scratch": 50_000}
# 25 demonstrations a task at 100 frames/s a core: 70 s. 100 episodes in closed loop: 30 s. Seven programs to
# start and three training steps to compile: 2 minutes. That leaves 6 for training, which 16 cores feed with
# about 3,000 samples of four frames a second: at batch 256 twelve steps a second, whatever the accelerator.
TEN_MINUTES = {"lam": 800, "pretrain": 1_200, "finetune": 2_000, "scratch": 3_200}


def get_config(arg=None):
    """The configuration of one stage, `finetune` by default; see the module."""
    stage, *options = (arg or "finetune").split("+")
    check_choice("stage", stage, tuple(FILES))
    for option in options:
        check_choice("option", option, OPTIONS)
    quick, wrist = "ten_minutes" in options, "wrist" in options
    config = _config_of(FILES[stage])("small" if quick else "base")
    config.data.mixture = "metaworld_clean"
    config.data.offsets_s = (0.1, 0.2, 0.4)
    config.data.readers = 16
    config.model.depth_input = "fuse"
    config.total_steps = (TEN_MINUTES if quick else STEPS)[stage]
    config.checkpoint.every = config.total_steps if quick else 2000
    if quick:
        _without_downloads(config)
    if stage == "lam":
        return config
    config.data.action_horizon = 16
    config.data.history_s = ()
    config.flow.draws = 8
    if wrist:
        config.data.cameras = ("primary", "wrist")
    if stage == "scratch":
        config.model.plan = False
        config.model.image_encoder = "patch" if quick else "dinov2-vitb14"
    return config


def _without_downloads(config):
    """Sizes and networks of the preset."""
    config.log_every = 50
    config.data.resolution = 96
    config.model.patch = 16
    config.loss.lpips = 0.0
    config.optimizer.learning_rate = 5e-4
    if config.task == "lam":
        config.model.image_encoder = "patch"
        config.model.head, config.model.frame_encoder = "layers", "patch"
        config.model.num_keypoints, config.model.code_width = 64, 2
        config.quantizer.name, config.quantizer.codebook_size = "fsq", 256
    else:
        config.data.text_tokenizer, config.data.text_length = "bytes", 48
        config.model.text_encoder = "own"
        config.model.num_keypoints = 64
        config.model.remat = "none"
