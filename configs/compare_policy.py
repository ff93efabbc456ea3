"""What each part of SSM-VLA is worth, and what pretraining on video without actions is worth with few labels.

    python -m data_pipelines.builders.synthetic data --level circle --video --val 1
    for n in 1 10 100; do
      python -m data_pipelines.builders.synthetic data --level circle --train $n --val 20 --steps 48 \
          --name circle_demos_$n
    done
    farsighted bench compare --config configs/compare_policy.py --seeds 0 1 2 --out runs/policy

Level `circle`: what the actor does next follows from what is seen and said; in the other levels it walks at
random, and no policy could be much better than the mean action. There are 400 clips of video and up to 100
demonstrations, three times as long, of scenes that the clips show too: video without actions is what there is
more of, and pretraining sees all of it.

A cell is three trainings: a latent action model, a policy pretrained on video with text, the same finetuned
with actions. The first two are stages, which cells of one seed share where they would be the same (see
`bench.stages`); every stage and every cell is a run of its own of a few minutes on 2 CPU cores. Pretraining
is the longest: after a third of it the plan is still so poor that all of it together is not worth its time.

  full      depth in LAM and policy, next keyframe, plan of three transitions, then actions
  no_vision, no_plan   without the next keyframe, without the plan, in pretraining and finetuning
  no_depth  neither the LAM nor the policy reads depth
  pair_lam  the LAM saw pairs {0, 0.6 s}, so the plan has one transition; the next keyframe is that of 0.6 s,
            so its frame is not to be compared with the others'
  no_lam    neither plan nor any pretraining on video; the next keyframe is predicted
  .._10, .._1   10 and 1 % of the actions: ten demonstrations and one. These are all that no_lam sees

Finetuning trains jointly: half of its samples are demonstrations, half are video, which goes on teaching the
next keyframe and the plan; from one demonstration alone the plan is unlearnt (top-1 from 46 to 28 %). Actions
always see the plan: with plan.dropout = 0.5 half of the samples teach them to read the scene instead, and one
scene teaches nothing that holds in another.

The robot's state is not read: where the actor is has to be seen, by an image encoder that is trained along in
every variant (the frozen tokens of a LAM of 400 steps limit what a policy can learn; see configs/README.md).

Equal compute: every LAM takes the same steps with 24 transitions each, every policy the same steps with the
same batch. A variant that lacks a part saves what that part costs; `no_plan` needs no LAM. `no_lam` has
neither LAM nor pretraining; in their place it trains `stages.scratch_steps` steps more on its labels, about
as many as cost the same processor time: a step takes it 0.22 s, the LAM 0.59 s, pretraining 0.29 s, measured
on one busy core; the table has what stages and training took in the end. That is a stage too, with a learning
rate schedule of its own, so that no cell is longer than another.
"""

import runpy
from pathlib import Path

from ml_collections import ConfigDict

from farsighted_jax.core.config import change


def _config_of(name):
    return runpy.run_path(str(Path(__file__).with_name(name)))["get_config"]


lam, pretrain, finetune = map(
    _config_of, ("lam_synthetic_hard.py", "policy_pretrain.py", "policy_finetune.py")
)

VIDEO, DEMONSTRATIONS = "synthetic_circle", "circle_demos_{}"


def demonstrations(number):
    """Changes of a variant that learns from nothing but so many demonstrations."""
    return {"data.mixture": DEMONSTRATIONS.format(number)}


def joint(number):
    """Changes of a variant whose finetuning sees as many samples of video as of so many demonstrations."""
    return {"data.mixture": f"{DEMONSTRATIONS.format(number)}:0.5,{VIDEO}:0.5"}


NO_LAM = {"model.plan": False, "stages.pretrain": False}
VARIANTS = {
    "full": {},
    "no_vision": {"model.vision": False},
    "no_plan": {"model.plan": False},
    "no_depth": {"model.depth_input": "none"},
    "pair_lam": {"data.offsets_s": (0.6,)},
    "no_lam": NO_LAM | demonstrations(100),
    "full_10": joint(10),
    "no_lam_10": NO_LAM | demonstrations(10),
    "full_1": joint(1),
    "no_lam_1": NO_LAM | demonstrations(1),
}

TRANSITIONS = 24  # of a LAM's step

ERROR, PLAN = "action_error/*/{}/{}/all", "plan_accuracy/{}/all"
COLUMNS = {
    "error_over_mean": ERROR.format("normalised", "mae_over_mean"),
    "error_over_repeat": ERROR.format("normalised", "mae_over_repeat"),
    "error_px": "action_error/*/own_units/mae/group/translation",
    **{f"plan_{name}": PLAN.format(name) for name in ("top1", "top1_frequent", "top1_free", "top5")},
    "plan_nats_under_unigram": (PLAN.format("unigram_entropy"), PLAN.format("cross_entropy")),
    "frame_over_copy_db": "mean imagined_frame/psnr_over_copy/*",
}


def claim(rows):
    """With 1 and with 10 % of the action labels, the error of `full` is below that of `no_lam`."""
    return all(rows[f"full_{share}"]["error_px"] < rows[f"no_lam_{share}"]["error_px"] for share in (1, 10))


def lam_stage(config):
    """The latent action model of a variant, on all the video, or None where nothing reads it."""
    if not config.model.plan:
        return None
    stage = lam()
    for key in ("dir", "offsets_s", "readers", "prefetch", "cache_dir"):
        stage.data[key] = config.data[key]
    stage.data.mixture = VIDEO
    stage.model.depth_input = config.model.depth_input
    stage.batch_size = TRANSITIONS // len(config.data.offsets_s)
    stage.total_steps = stage.checkpoint.every = config.stages.lam_steps
    return stage


def init_stage(config):
    """What finetuning starts from: a policy without actions from all the video, or more of the same."""
    stage = ConfigDict({key: value for key, value in config.to_dict().items() if key != "stages"})
    if not config.stages.pretrain:
        stage.total_steps = stage.checkpoint.every = config.stages.scratch_steps
        return stage
    stage.task, stage.plan = pretrain().task, pretrain("tiny").plan
    stage.model.action = False
    stage.data.mixture = VIDEO
    stage.total_steps = stage.checkpoint.every = config.stages.pretrain_steps
    return stage


STAGES = {"lam": lam_stage, "init": init_stage}


def get_config(arg=None):
    """The configuration of one variant, `full` by default; `stages` has the steps of what comes before."""
    config = finetune("tiny")
    config.stages = {"pretrain": True, "lam_steps": 400, "pretrain_steps": 1800, "scratch_steps": 3450}
    config.total_steps = config.checkpoint.every = 1200
    config.log_every = 20
    config.model.image_encoder = "patch"
    config.model.depth_input = "fuse"
    config.model.proprio = False
    config.plan.dropout = 0.0
    config.eval.batch_size = 32
    change(config, joint(100) | VARIANTS[arg or "full"])
    return config
