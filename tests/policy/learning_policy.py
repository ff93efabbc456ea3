"""A policy with every group and option, a stand-in for a LAM, and random batches; all sizes differ."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from policy_cases import LAYOUT, WIDTH

from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.policy.action_space import ActionSpaces
from farsighted_jax.policy.inputs import Inputs
from farsighted_jax.policy.model import Policy
from farsighted_jax.policy.objective import LossWeights, Objective
from farsighted_jax.policy.task import PolicyTask

B, R, P, H, W, PATCH, E, V, L, I_, M = 4, 2, 2, 4, 8, 4, 6, 5, 3, 3, 4  # fmt: skip
T, Z, J = LAYOUT.transitions + 1, LAYOUT.slots, LAYOUT.chunk


@dataclasses.dataclass(frozen=True)
class StandIn:
    """Codes from the brightness of keyframes, tokens from patches: what a frozen LAM would give."""

    num_slots = Z
    codebook_size = V
    token_width = E
    patch = PATCH
    reads_depth = False

    def data_settings(self):
        return {"offsets_s": (0.2, 0.4)}

    def shapes(self):
        return {"lam": {"kernel": jax.ShapeDtypeStruct((PATCH * PATCH * 3, E), jnp.float32)}}

    def codes(self, params, batch):
        total_Bt = batch.get("plain_rgb", batch["rgb"])[:, 1:].astype(jnp.int32).sum(axis=(2, 3, 4))
        return (total_Bt[..., None] // jnp.arange(1, Z + 1)) % V

    def frame_tokens(self, params, rgb_BHWC, *depth):
        patches = rgb_BHWC.reshape(-1, H // PATCH, PATCH, W // PATCH, PATCH, 3).swapaxes(2, 3)
        return patches.reshape(len(rgb_BHWC), -1, PATCH * PATCH * 3) @ params[PRETRAINED]["lam"]["kernel"]


SPEC = ActionSpec(
    names=("x", "y", "turn", "gripper"), units=("m", "m", "rad", "1"),
    groups=("translation", "translation", "rotation", "gripper"), delta=(True, True, True, False),
    frame="base", rotation="none", hz=5.0,
)  # fmt: skip


def policy_task(**changes):
    """The task; `changes` are attributes of the objective or of its inputs."""
    parts = {field.name for field in dataclasses.fields(Inputs)}
    inputs = Inputs("lam", "own", True, True, latent_actions=StandIn())
    inputs = dataclasses.replace(inputs, **{k: v for k, v in changes.items() if k in parts})
    model = Policy(
        LAYOUT, WIDTH, depth=1, num_heads=2, head_depth=2, codebook_size=V, patch=PATCH, action_width=M,
        num_embodiments=2, own_frames=False, depth_input="fuse", text="tiny", residual=True, token_width=E,
        discrete_gripper=True, unroll=2,
    )  # fmt: skip
    # The second dataset is video without actions.
    spaces = ActionSpaces((SPEC, None), discrete_gripper=True)
    objective = Objective(model, inputs, LossWeights(feature=0.5), spaces)
    rest = {k: v for k, v in changes.items() if k not in parts}
    return PolicyTask(dataclasses.replace(objective, **rest), state_width=I_)


def random_batch(seed=0):
    """Rows: all there; no keyframe; the last keyframe missing; video without actions and proprioception."""
    rng = np.random.default_rng(seed)
    frame_valid = np.ones((B, T), bool)
    frame_valid[1, 1:] = False
    frame_valid[2, 2] = False
    dataset = np.array([0, 0, 0, 1], np.int32)
    action_valid = np.broadcast_to((dataset == 0)[:, None, None], (B, J, M)).copy()
    action_valid[2, 1:] = False
    history_valid = np.ones((B, R, P), bool)
    history_valid[0, 0], history_valid[3, :, 1] = False, False
    text_valid = np.ones((B, L), bool)
    text_valid[1, 1:] = False

    def depth_of(*shape):
        return rng.normal(size=shape).astype(np.float32), rng.uniform(size=shape) < 0.8

    depth, depth_valid = depth_of(B, T, H, W, 1)
    history_depth, history_depth_valid = depth_of(B, R, P, H, W, 1)
    return {
        "rgb": rng.integers(0, 256, (B, T, H, W, 3), np.uint8),
        "depth": depth,
        "depth_valid": depth_valid & frame_valid[:, :, None, None, None],
        "frame_valid": frame_valid,
        "time_s": np.tile(np.arange(T, dtype=np.float32) * 0.2, (B, 1)),
        "history_rgb": rng.integers(0, 256, (B, R, P, H, W, 3), np.uint8),
        "history_valid": history_valid,
        "history_depth": history_depth,
        "history_depth_valid": history_depth_valid,
        "action": rng.normal(size=(B, J, M)).astype(np.float32),
        "action_valid": action_valid,
        "proprio": rng.normal(size=(B, I_)).astype(np.float32),
        "proprio_valid": np.broadcast_to((dataset == 0)[:, None], (B, I_)).copy(),
        "text": rng.integers(3, 259, (B, L)).astype(np.int32),
        "text_valid": text_valid,
        "dataset": dataset,
        "row": np.arange(B, dtype=np.int32),
    }
