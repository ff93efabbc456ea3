"""A whole policy with every part and option, of sizes that all differ, and random inputs for it."""

import jax
import numpy as np
from policy_cases import LAYOUT, WIDTH, normal

from farsighted_jax.policy.model import Policy
from farsighted_jax.policy.observation import Observation

PATCH, V, M = 4, 5, 7
B, J, K = 2, LAYOUT.chunk, 5
POLICY = Policy(
    LAYOUT,
    WIDTH,
    depth=2,
    num_heads=2,
    head_depth=2,
    codebook_size=V,
    patch=PATCH,
    action_width=M,
    num_embodiments=3,
    depth_input="fuse",
    text="tiny",
    num_keypoints=6,
    vision_from_frame=True,
    residual=True,
    token_width=6,
    action_context=True,
    discrete_gripper=True,
)

TEXT_VALID = np.array([[True, True, False], [True, False, False]])
FRAME_VALID = np.array([[[True, False], [True, False]], [[True, True], [False, True]]])
PROPRIO_VALID = np.array([[True, False, True], [True, True, True]])
# Within a slot no code occurs twice, so that the gradient of its row is that of one code of one sample.
CODES = np.array([[[0, 3], [1, 2]], [[2, 0], [4, 1]]], np.int32)
CODE_VALID = np.array([[True, True], [True, False]])


def observation():
    rng = np.random.default_rng(0)
    H, W = PATCH * LAYOUT.grid[0], PATCH * LAYOUT.grid[1]
    frames = (B, LAYOUT.frames, LAYOUT.views)
    return Observation(
        rgb_BRPHWC=rng.uniform(size=(*frames, H, W, 3)).astype(np.float32),
        depth_BRPHW1=rng.normal(size=(*frames, H, W, 1)).astype(np.float32),
        depth_valid_BRPHW1=rng.uniform(size=(*frames, H, W, 1)) < 0.8,
        frame_valid_BRP=FRAME_VALID,
        token_BL=np.array([[3, 70, 9], [200, 4, 258]], np.int32),
        text_valid_BL=TEXT_VALID,
        proprio_BI=normal(1, B, 3),
        proprio_valid_BI=PROPRIO_VALID,
        embodiment_B=np.array([2, 1], np.int32),
    )


def targets(**changes):
    """Arguments of a policy after the observation."""
    action_valid = np.ones((B, J, M), bool)
    action_valid[0, 2:] = False
    action_valid[1, :, 4:] = False
    arguments = {
        "code_BtZ": CODES,
        "code_valid_Bt": CODE_VALID,
        "plan_hidden_B": np.zeros(B, bool),
        "noisy_BKJM": normal(2, B, K, J, M),
        "time_BK": np.linspace(0.1, 0.9, B * K, dtype=np.float32).reshape(B, K),
        "action_valid_BJM": action_valid,
    }
    return arguments | changes


NUM_READINGS = 1 + LAYOUT.num_codes + 2


def readings(outputs):
    """Numbers that depend on all of an output each: vision, every position of the plan, velocity, gripper."""

    def reading(seed, *parts):
        return sum((part * normal(seed + i, *part.shape)).sum() for i, part in enumerate(parts))

    plan = [reading(20, outputs.logit_BnV[:, i]) for i in range(LAYOUT.num_codes)]
    vision = reading(10, outputs.rgb_BHWC, outputs.depth_BHW1, outputs.token_BNE)
    return jax.numpy.stack(
        [vision, *plan, reading(30, outputs.velocity_BKJM), reading(31, outputs.gripper_BJM)]
    )
