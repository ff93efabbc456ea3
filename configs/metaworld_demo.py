"""The demo: three tasks of Meta-World, from recordings to a policy in closed loop, on two CPU cores.

    farsighted demo

runs, by these configurations, what anybody could type:

  lam       a latent action model from the recordings' images and depth; it reads no action
  pretrain  the policy's next keyframe and plan, from the same images with text
  finetune  the same policy with actions
  cloner    the same transformer from actions alone: no latent actions, no plan, no imagined frame

One camera of 96 px, hand and gripper as state, chunks of 8 steps at 80 Hz. README.md has what it measured.
"""

import runpy
from pathlib import Path


def _config_of(name):
    return runpy.run_path(str(Path(__file__).with_name(name)))["get_config"]


STEPS = {"lam": 300, "pretrain": 600, "finetune": 800, "cloner": 1200}


def get_config(arg=None):
    """The configuration of one stage, `finetune` by default."""
    stage = arg or "finetune"
    if stage == "lam":
        config = _config_of("lam_synthetic_hard.py")()
        config.data.windows_per_episode = 4
    else:
        name = "policy_pretrain.py" if stage == "pretrain" else "policy_finetune.py"
        config = _config_of(name)("tiny")
        config.batch_size = 16 if stage == "pretrain" else 32
        config.data.windows_per_episode = 8
        config.data.text_length = 24
    config.total_steps = STEPS[stage]
    config.checkpoint.every = 200
    config.log_every = 20
    config.data.mixture = "metaworld_clean"
    config.data.resolution = 96
    config.data.offsets_s = (0.1, 0.2, 0.4)
    config.data.action_horizon = 8
    config.model.patch = 16
    config.model.depth_input = "fuse"
    if stage == "cloner":
        config.data.offsets_s, config.data.depth = (0.1,), "off"
        config.model.vision = config.model.plan = False
        config.model.image_encoder, config.model.depth_input = "patch", "none"
        config.eval.evaluators = ("action_error",)
    return config
