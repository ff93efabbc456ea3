"""SSM-VLA before it has seen an action: next keyframe and latent plan, from any RLDS video with text.

    farsighted train --config configs/policy_pretrain.py:tiny --config.lam=W1 \
        --config.data.dir=DIR --config.data.mixture=bridge_dataset --workdir W2

`lam` is the run folder of a latent action model (`configs/lam_pretrain.py` of the same variant); the policy's
run keeps what it needs of it. `configs/policy_finetune.py` goes on from here with actions.

Arguments (parameters are those of the trainable part, `farsighted inspect config` counts them):

  tiny   64 px, for tests and a look around on 2 CPU cores; text as bytes, its encoder trained along.
  small, base, large   224 px, for accelerators. Nobody has trained these with this code yet, so no hours
         and no expected numbers stand here.

These three read T5, converted once by `farsighted convert --model t5-base`, and need the networks of LPIPS.
`farsighted text-features` spares every step T5 (`data.text_features`), see configs/README.md.
"""

from ml_collections import ConfigDict

BATCH_SIZES = {"tiny": 8, "small": 256, "base": 256, "large": 256}


def get_config(arg=None):
    """The configuration of one variant; see the module."""
    variant = arg or "base"
    tiny = variant == "tiny"
    return ConfigDict(
        {
            "task": "policy_pretrain",
            "seed": 0,
            "total_steps": 200 if tiny else 100_000,
            "stop_step": 0,  # 0: train to total_steps
            "log_every": 10 if tiny else 100,
            "batch_size": BATCH_SIZES[variant],
            "lam": "",  # run folder of the latent action model; "": that of `init`
            "init": "",  # run folder for a warm start: every parameter that both have is taken
            "data": {
                "dir": "data",  # folder of RLDS datasets, local, https:// or gs://
                "mixture": "bridge_dataset",
                "split": "train",
                "resolution": 64 if tiny else 224,  # px; as the LAM's
                "offsets_s": (0.2, 0.4, 0.6),  # seconds from frame 0 to each keyframe; as the LAM's
                "dataset_offsets_s": (),  # see lam_pretrain.py; as the LAM's
                "offset_scales": (1.0,),
                "whole_windows": False,
                "action_horizon": 4 if tiny else 16,  # steps of an action chunk
                "camera": "primary",
                "cameras": ("primary",),  # of the history, `camera` first
                "history_s": () if tiny else (0.4, 0.2),  # seconds before frame 0, which is always there
                "codes": "",  # folder of side datasets of `farsighted label`, for plan.codes "stored"
                "action_fraction": 1.0,  # share of the training episodes whose actions are seen
                "plain_clip": not tiny,  # the LAM reads the clip before augmentation
                "depth": "auto",
                "depth_noise": 0.0,
                "augment": not tiny,
                "shift": 0.05,  # share of the resolution
                "jitter": 0.2,
                "windows_per_episode": 1,
                "text_tokenizer": "bytes" if tiny else "t5-base",
                "text_length": 32 if tiny else 64,  # tokens
                "text_choice": "first",  # of the ways to say an episode's task; "any": each sample draws one
                "text_dropout": 0.0,  # share of the training samples that are told nothing
                "text_features": "",  # folder of `farsighted text-features`; "": T5 runs in the step
                "on_corrupt": "strict",
                "cache_dir": "",
                "normalization": "q01_q99",
                "readers": 2 if tiny else 8,
                "prefetch": 4 if tiny else 16,  # batches
                "memory_mb": 1024.0 if tiny else 16384.0,  # of a host: batches ahead, data kept
            },
            "model": {
                "variant": variant,
                "image_encoder": "lam",  # frozen; "patch" is trained along, or e.g. "dinov2-vitb14"
                "text_encoder": "own" if tiny else "t5-base",  # "own" is trained along; "" for no language
                "depth_input": "none",  # "fuse": the history's depth is read too
                "vision": True,  # groups of tokens: the next keyframe,
                "plan": True,  # the codes of the future,
                "action": False,  # and the actions
                "proprio": True,  # whether the robot's state is read, where there is one
                "residual": True,  # the next keyframe as a change of the present frame
                "vision_queries": "frame",  # they start from the present frame's tokens; "learned": do not
                "action_context": False,  # the action head looks at the context too
                "gripper": "flow",  # "discrete": a head of its own
                "num_embodiments": 8,  # at least as many as datasets
                "num_keypoints": 64 if tiny else 0,  # shortcut from features to positions, for short runs
                "adapter_rank": 0,  # of low-rank adapters of what optimizer.freeze names; 0: none
                "patch": 8 if tiny else 14,  # px; as the frozen image encoder's
                "unroll": 2 if tiny else 1,  # blocks a loop iteration; all of them is faster on CPU
                "remat": "none" if tiny else "dots",  # what is computed again backwards: layers/remat.py
                "dtype": "float32" if tiny else "bfloat16",
            },
            "plan": {
                # True codes give the action away, predicted ones do not. Without both of these, actions lean
                # on codes that a robot does not have.
                "dropout": 0.5,  # share of the samples whose actions do not see the plan
                "scheduled_sampling": 0.5,  # share of the codes replaced by predicted ones
                "codes": "lam",  # made in the step; "stored": read from data.codes
            },
            "flow": {
                "draws": 8 if tiny else 4,  # points of a sample's path that a step trains
                "num_steps": 10,
                "solver": "euler",
            },
            "loss": {
                "action": 1.0,
                "latent": 0.1,
                "vision": 0.1,  # at 1.0 it holds up the actions of short runs
                "gripper": 0.1,
                "rgb": 1.0,  # this and what follows: within vision
                "depth": 0.1,
                "lpips": 0.0 if tiny else 1.0,
                "feature": 0.0,  # frozen tokens of the next keyframe
            },
            "optimizer": {
                "learning_rate": 1e-3 if tiny else 1e-4,
                "final_learning_rate": 1e-5,
                "warmup_steps": -1,  # -1: 5 % of total_steps
                "b1": 0.9,
                "b2": 0.95,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
                "accumulation": 1,
                "ema_decay": 0.0,
                "freeze": (),  # patterns of parameters, such as "^backbone/"
                "no_decay": (r"(bias|scale|gate)$", "norm", "queries", "embedding"),
                "max_bad_steps": 10,
            },
            "gate": {"metric": "", "minimum": 0.0, "start_step": 500, "window": 100, "patience": 3},
            "checkpoint": {
                "every": 100 if tiny else 2000,
                "keep_last": 3,
                "keep_every": 0,
                "async_save": True,
            },
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "eval": {
                "evaluators": ("plan_accuracy", "imagined_frame"),
                "batch_size": 16 if tiny else 64,
                "fit_batches": 64,
            },
        }
    )
