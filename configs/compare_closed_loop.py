"""What each part of SSM-VLA is worth to a robot that acts: `compare_policy.py` with a simulator at its end.

    farsighted rollout record --variant video --tasks drawer-open door-open button-press-topdown \
        --episodes 50 --cameras primary --resolution 96 --out data
    farsighted rollout record --tasks drawer-open door-open button-press-topdown \
        --episodes 5 --cameras primary --resolution 96 --name metaworld_few --out data
    farsighted bench compare --config configs/compare_closed_loop.py --seeds 0 --out runs/closed_loop

Meta-World: 150 videos of noisy experts without actions, 15 demonstrations with them. With the 150
demonstrations of the demo a plain cloner succeeds every time, so that nothing could be told apart. Variants,
what is equal, joint finetuning and stages are those of `compare_policy.py`; columns are rates of success on
seeds that no recording has, and the action error on held-out demonstrations.

  full      depth in LAM and policy, next keyframe, plan of three transitions, then actions
  no_vision, no_plan, no_depth, pair_lam   without that part; the pair is {0, 0.4 s}
  no_lam    neither plan nor any pretraining: in their place more steps on the demonstrations, about as many
            as cost the same processor time
"""

import runpy
from pathlib import Path

from farsighted_jax.core.config import change

HERE = Path(__file__).parent
demo = runpy.run_path(str(HERE / "metaworld_demo.py"))["get_config"]
policy = runpy.run_path(str(HERE / "compare_policy.py"))

TASKS = ("drawer-open", "door-open", "button-press-topdown")
VIDEO, LABELLED = "metaworld_video", "metaworld_few"
VARIANTS = {name: policy["VARIANTS"][name] for name in ("full", "no_vision", "no_plan", "no_depth")}
VARIANTS |= {
    "pair_lam": {"data.offsets_s": (0.4,)},
    "no_lam": policy["NO_LAM"] | {"data.mixture": LABELLED},
}

RATE = "closed_loop/policy/{}"
COLUMNS = {
    "success": RATE.format("success"),
    **{task.replace("-", "_"): RATE.format(f"tasks/{task}/success") for task in TASKS},
    "error_over_mean": "action_error/*/normalised/mae_over_mean/all",
    **{name: policy["COLUMNS"][name] for name in ("plan_top1", "plan_top1_frequent", "frame_over_copy_db")},
}


def claim(rows):
    """`full` succeeds more often than `no_lam`."""
    return rows["full"]["success"] > rows["no_lam"]["success"]


def lam_stage(config):
    """The latent action model of a variant, on the videos, or None where nothing reads it."""
    if not config.model.plan:
        return None
    stage = demo("lam")
    for key in ("dir", "offsets_s", "readers", "prefetch", "cache_dir"):
        stage.data[key] = config.data[key]
    stage.data.mixture = VIDEO
    stage.model.depth_input = config.model.depth_input
    stage.batch_size = policy["TRANSITIONS"] // len(config.data.offsets_s)
    stage.total_steps = stage.checkpoint.every = config.stages.lam_steps
    return stage


def init_stage(config):
    """What finetuning starts from: a policy without actions from the videos, or more of the same."""
    stage = policy["init_stage"](config)
    stage.eval.rollout = ()
    if config.stages.pretrain:
        stage.data.mixture = VIDEO
    return stage


STAGES = {"lam": lam_stage, "init": init_stage}


def get_config(arg=None):
    """The configuration of one variant, `full` by default; `stages` has the steps of what comes before."""
    config = demo("finetune")
    config.stages = {"pretrain": True, "lam_steps": 300, "pretrain_steps": 900, "scratch_steps": 1700}
    config.total_steps = config.checkpoint.every = 600
    config.batch_size = 16
    config.data.mixture = f"{LABELLED}:0.5,{VIDEO}:0.5"
    config.data.split = "train"
    config.model.image_encoder = "patch"
    # Options of `farsighted rollout run`; the expert and random actions are the same for every cell.
    config.eval.rollout = (
        "--tasks",
        *TASKS,
        "--episodes",
        "20",
        "--resolution",
        "96",
        "--controllers",
        "policy",
    )
    change(config, VARIANTS[arg or "full"])
    return config
