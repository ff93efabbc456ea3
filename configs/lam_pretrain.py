"""Farsighted-LAM on any RLDS data: geometry of the published model, sizes by name.

    farsighted train --config configs/lam_pretrain.py:tiny --config.data.dir=DIR \
        --config.data.mixture=bridge_dataset --workdir W

Arguments (parameters are those of the trainable part, `farsighted inspect config` counts them):

  tiny   64 px, 4 keyframes, for tests and a look around on 2 CPU cores.
  small, base, paper, large   224 px, for accelerators. Nobody has trained these
         with this code yet, so no hours and no expected numbers stand here.

These four read a frozen DINOv2 and are trained with LPIPS. They need converted weights of three networks;
without them a run ends at once and prints these commands:

    farsighted convert --model dinov2-vitb14       # small: dinov2-vits14, large: dinov2-vitl14
    farsighted convert --model vgg16
    farsighted convert --model lpips-vgg16 --source FILE.safetensors

The paper's variant has 269.4 M trainable parameters (published: about 267 M): 266.9 M in its blocks, 2.5 M
in what embeds and reads out. Its decoder embeds frame 0 by one linear map a patch (0.5 M), as the published
one does; with `model.frame_encoder` = "patch" there would be 274.0 M.
"""

from ml_collections import ConfigDict

BATCH_SIZES = {"tiny": 16, "small": 256, "base": 256, "paper": 256, "large": 256}
IMAGE_ENCODERS = {
    "tiny": "patch",
    "small": "dinov2-vits14",
    "base": "dinov2-vitb14",
    "paper": "dinov2-vitb14",
    "large": "dinov2-vitl14",
}


def get_config(arg=None):
    """The configuration of one variant; see the module."""
    variant = arg or "paper"
    tiny = variant == "tiny"
    return ConfigDict(
        {
            "task": "lam",
            "seed": 0,
            "total_steps": 200 if tiny else 200_000,
            "stop_step": 0,  # 0: train to total_steps
            "log_every": 10 if tiny else 100,
            "batch_size": BATCH_SIZES[variant],
            "init": "",  # run folder for a warm start
            "data": {
                "dir": "data",  # folder of RLDS datasets, local, https:// or gs://
                "mixture": "bridge_dataset",
                "split": "train",
                "resolution": 64 if tiny else 224,  # px
                "offsets_s": (0.2, 0.4, 0.6),  # seconds from frame 0 to each keyframe
                "dataset_offsets_s": (),  # (("droid", (0.1, 0.2, 0.3)),) gives a dataset offsets of its own
                "offset_scales": (1.0,),  # each training window draws one, which multiplies its offsets
                "whole_windows": False,  # leave out windows that run past the end of their episode
                "action_horizon": 4,  # steps
                "camera": "primary",
                "depth": "auto",
                "depth_noise": 0.0,  # relative error, with holes, of the depth that the encoder reads
                "augment": not tiny,
                "shift": 0.05,  # share of the resolution
                "jitter": 0.2,
                "image_features": "",  # folder of `farsighted image-features`; "": it runs in the step
                "windows_per_episode": 1,
                "on_corrupt": "strict",
                "cache_dir": "",
                "normalization": "q01_q99",
                "readers": 2 if tiny else 8,
                "prefetch": 4 if tiny else 16,  # batches
                "memory_mb": 1024.0 if tiny else 16384.0,  # of a host: batches ahead, data kept
            },
            "model": {
                "variant": variant,
                "head": "layers" if tiny else "pixels",
                "image_encoder": IMAGE_ENCODERS[variant],  # "patch" is trained, others are frozen
                "frame_encoder": "patch" if tiny else "linear",  # of the decoder; "linear" as published
                "depth_input": "none",  # "fuse": the encoder reads depth too
                "depth_estimator": "",  # e.g. "depth-anything-vitb14": depth where no sensor measured any
                "num_keypoints": 64 if tiny else 0,  # shortcut from features to motion, for short runs
                "num_slots": 4,
                "code_width": 2 if tiny else 128,
                "patch": 8 if tiny else 14,  # px
                "pyramid": () if tiny else (1, 2),  # frames; dilations of the temporal pyramid, () for none
                "pyramid_every": 2 if tiny else 4,  # blocks
                "unroll": 2 if tiny else 1,  # blocks a loop iteration; all of them is faster on CPU
                "remat": "none" if tiny else "dots",  # what is computed again backwards: layers/remat.py
                "dtype": "float32" if tiny else "bfloat16",
            },
            "quantizer": {
                "name": "fsq" if tiny else "ema",  # an EMA codebook needs more steps than tiny runs have
                "codebook_size": 256 if tiny else 32,
                "distance": "l2",
                "decay": 0.99,
                "restart_below": 0.1,  # of an even share
                "warmup": 0.0,  # share of total_steps before codes replace vectors
                "levels": (16, 16),  # "fsq" alone: values a channel; code_width and codebook_size must agree
            },
            "loss": {
                "rgb": 1.0,
                "lpips": 0.0 if tiny else 1.0,  # 1.0: the authors' published configuration
                "depth": 0.1,
                "feature": 0.0,  # frozen tokens of frame k
                "commit": 0.25,
                "codebook": 1.0,
                "contrastive": 0.0,
                "relative_depth": 0.0,  # of clips without depth, against what a depth_estimator says
            },
            "contrastive": {
                "temperature": 0.1,
                "jitter": 0.3,  # of the second view
                "min_motion": 0.005,  # mean change of rgb within [0, 1]; below it a window is no negative
                "other_episodes": False,  # as negatives too
            },
            "optimizer": {
                "learning_rate": 1e-3 if tiny else 1e-4,
                "final_learning_rate": 1e-5 if tiny else 5e-5,
                "warmup_steps": -1,  # -1: 5 % of total_steps
                "b1": 0.9,
                "b2": 0.99,
                "weight_decay": 0.01,
                "clip_norm": 1.0,
                "accumulation": 1,
                "ema_decay": 0.0,
                "freeze": (),
                "no_decay": (r"(bias|scale)$", "norm", "queries", "slots", "codebook", "taps"),
                "max_bad_steps": 10,
            },
            "gate": {
                "metric": "place_perplexity",  # of a slot of a transition; "": no gate
                "minimum": 1.5,  # 1: the codes say the same of every clip
                "start_step": 500,
                "window": 100,  # steps
                "patience": 3,  # low windows in a row; each restarts the codebook, the last stops the run
            },
            "checkpoint": {
                "every": 100 if tiny else 2000,
                "keep_last": 3,
                "keep_every": 0,
                "async_save": True,
            },
            "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
            "eval": {
                "evaluators": (
                    "mean",
                    "reconstruction",
                    "codebook",
                    "latent_probe",
                    "controllability",
                    "composition",
                    "transfer",
                ),
                "batch_size": 16 if tiny else 64,
                "fit_batches": 64,  # training batches a probe is fitted on
                "gap_multiples": (1, 2, 4, 8),  # of offsets_s, for the evaluator "gap_robustness"
                "gap_batches": 0,  # batches scored at each of them, drawn at random; 0: every window
            },
        }
    )
