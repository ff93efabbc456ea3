"""The training objective of the policy: actions, latent plan and next keyframe, each masked (eq. 14).

Every term is a sum over what is valid, divided by the count of the whole step,
which is known from masks alone. So video without actions trains vision and
plan, a missing keyframe is never a target, and parts of a batch add up to it.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from farsighted_jax.core.batch import BatchError, float_rgb, transition_valid
from farsighted_jax.core.rng import named_key, sample_keys
from farsighted_jax.losses import depth as depth_loss
from farsighted_jax.losses.feature import token_error
from farsighted_jax.losses.flow import gripper_cross_entropy, velocity_error
from farsighted_jax.losses.masked import masked_sum, safe_ratio, weighted_mean
from farsighted_jax.losses.reconstruction import squared_error
from farsighted_jax.policy.action_space import ActionSpaces
from farsighted_jax.policy.flow_matching import training_points
from farsighted_jax.policy.inputs import Inputs
from farsighted_jax.policy.model import Policy
from farsighted_jax.policy.scheduled_sampling import scheduled_outputs

# Terms of the next keyframe, all within `vision`.
VISION_TERMS = ("rgb", "depth", "lpips", "feature")

# Of the plan's accuracy: how many of the likeliest codes may hold the true one.
TOP = (1, 5, 10)


@dataclasses.dataclass(frozen=True)
class LossWeights:
    """Weight of each term; those of `VISION_TERMS` count within `vision`.

    A weight of 0 for one of the last two leaves the term out of the computation.
    """

    action: float = 1.0
    latent: float = 1.0
    vision: float = 1.0
    gripper: float = 1.0
    rgb: float = 1.0
    depth: float = 0.1
    lpips: float = 0.0
    feature: float = 0.0


@dataclasses.dataclass(frozen=True)
class Objective:
    """What a policy learns from a batch.

    Attributes:
      model: the policy.
      inputs: what it reads.
      weights: of the terms.
      spaces: of the actions, or None without actions.
      plan_dropout: share of the samples whose actions see no code of the plan.
      scheduled_sampling: share of the codes that the policy's own take the place of.
      flow_draws: K points of each sample's path that a step trains.
    """

    model: Policy
    inputs: Inputs
    weights: LossWeights = LossWeights()
    spaces: ActionSpaces | None = None
    plan_dropout: float = 0.0
    scheduled_sampling: float = 0.0
    flow_draws: int = 1

    def masks(self, batch):
        """What each term is over.

        Returns:
          "vision" bool[B], "depth" bool[B, 1, H, W, 1], "latent" bool[B, t], "action" and
          "gripper" bool[B, J, M], as far as the policy has them.

        Raises:
          BatchError: the policy has actions, and the batch none.
        """
        masks, layout = {}, self.model.layout
        if layout.size("vision"):
            masks["vision"] = transition_valid(batch["frame_valid"])[:, 0]
            if "depth" in batch:
                masks["depth"] = batch["depth_valid"][:, 1:2] & masks["vision"][:, None, None, None, None]
        if layout.num_codes:
            masks["latent"] = self.inputs.code_valid(batch)
        if layout.chunk:
            if "action" not in batch:
                raise BatchError(
                    f"batch field 'action' missing: this policy learns it; it has {sorted(batch)}"
                )
            valid_BJM, dataset_B = batch["action_valid"], batch["dataset"]
            masks["action"] = valid_BJM & self.spaces.flow_dimensions(dataset_B)
            if self.model.discrete_gripper:
                masks["gripper"] = valid_BJM & self.spaces.gripper_dimensions(dataset_B)
        return masks

    def denominators(self, batch):
        """See `core.task.Task.denominators`."""
        masks = self.masks(batch)
        counts = {name: mask.sum(dtype=jnp.float32) for name, mask in masks.items() if name != "depth"}
        if "latent" in counts:
            counts["latent"] *= self.model.layout.slots
        if "depth" in masks:
            along_x, along_y = depth_loss.pair_masks(masks["depth"])
            counts["depth_x"] = along_x.sum(dtype=jnp.float32)
            counts["depth_y"] = along_y.sum(dtype=jnp.float32)
        return counts

    def loss(self, params, batch, key, counts):
        """Loss and metrics of one (micro-)batch; see `core.task.Task.loss`."""
        masks, here = self.masks(batch), self.denominators(batch)
        code_BtZ, target_BKJM, points, outputs = self._predicted(params, batch, masks, key)
        terms, metrics = {}, {}
        if "vision" in masks:
            terms |= self._vision_terms(params, batch, masks, outputs, counts)
        if "latent" in masks:
            terms["latent"], accuracy = _plan_term(
                outputs.logit_BnV, code_BtZ, masks["latent"], counts["latent"]
            )
            metrics |= {name: (correct, here["latent"]) for name, correct in accuracy.items()}
        if "action" in masks:
            velocity_errors = jax.vmap(velocity_error, in_axes=(1, 1, None))
            total_K, _ = velocity_errors(outputs.velocity_BKJM, target_BKJM, masks["action"])
            terms["action"] = safe_ratio(total_K.mean(), counts["action"])
            error_BKJM = _action_error(batch["action"], *points, outputs.velocity_BKJM)
            metrics["action_error"] = masked_sum(error_BKJM.mean(axis=1), masks["action"]), here["action"]
        if "gripper" in masks:
            total, _ = gripper_cross_entropy(outputs.gripper_BJM, batch["action"], masks["gripper"])
            terms["gripper"] = safe_ratio(total, counts["gripper"])
        total = sum(
            getattr(self.weights, name) * term for name, term in terms.items() if name not in VISION_TERMS
        )
        for name, term in terms.items():
            counted = "vision" if name in VISION_TERMS else name
            # A term is already divided by the count of the step.
            metrics[name] = term * counts[counted], here[counted]
        return total, metrics

    def _predicted(self, params, batch, masks, key):
        """Codes, target velocities, (noisy chunks, flow times) and what the policy makes of the batch."""

        def drawn(name, draw):
            return jax.vmap(draw)(sample_keys(named_key(key, name), batch["row"]))

        variables = {"params": params}
        arguments = {"observation": self.inputs.observation(params, batch)}
        code_BtZ = target_BKJM = points = None
        if "latent" in masks:
            code_BtZ = jax.lax.stop_gradient(self.inputs.codes(params, batch))
            arguments |= {"code_BtZ": code_BtZ, "code_valid_Bt": masks["latent"]}
        if "action" in masks:
            keys = sample_keys(named_key(key, "flow"), batch["row"])
            *points, target_BKJM = training_points(keys, batch["action"], masks["action"], self.flow_draws)
            arguments |= {"noisy_BKJM": points[0], "time_BK": points[1], "action_valid_BJM": masks["action"]}
            if "latent" in masks and self.plan_dropout:
                arguments["plan_hidden_B"] = drawn(
                    "plan_dropout", lambda key: jax.random.bernoulli(key, self.plan_dropout)
                )
        method = None
        if "latent" in masks and self.scheduled_sampling:
            method, shape = scheduled_outputs, code_BtZ.shape[1:]
            arguments["replaced_BtZ"] = drawn(
                "scheduled_sampling", lambda key: jax.random.bernoulli(key, self.scheduled_sampling, shape)
            )
        return code_BtZ, target_BKJM, points, self.model.apply(variables, **arguments, method=method)

    def _vision_terms(self, params, batch, masks, outputs, counts):
        """Terms of the next keyframe, and their weighted sum."""
        weights, inputs = self.weights, self.inputs
        target_BHWC = float_rgb(batch["rgb"][:, 1])
        errors = {"rgb": squared_error(outputs.rgb_BHWC, target_BHWC)}
        if weights.lpips:
            errors["lpips"] = inputs.networks.perceptual_distance(params, outputs.rgb_BHWC, target_BHWC)
        if weights.feature:
            errors["feature"] = token_error(outputs.token_BNE, inputs.target_tokens(params, batch))
        terms = {
            name: weighted_mean(error_B, masks["vision"], counts["vision"])
            for name, error_B in errors.items()
        }
        if "depth" in masks:
            terms["depth"] = depth_loss.gradient_aware_log_loss(
                outputs.depth_BHW1[:, None],
                batch["depth"][:, 1:2],
                masks["depth"],
                target_BHWC[:, None],
                counts["depth_x"],
                counts["depth_y"],
            )
        return terms | {"vision": sum(getattr(weights, name) * term for name, term in terms.items())}


def _plan_term(logit_BnV, code_BtZ, valid_Bt, count):
    """Cross entropy in nats, mean over valid codes (eq. 11), and how many codes are among the likeliest."""
    num_slots = code_BtZ.shape[2]
    valid_Bn = jnp.repeat(valid_Bt, num_slots, axis=1)
    code_Bn = jnp.where(valid_Bn, code_BtZ.reshape(valid_Bn.shape), 0)
    true_Bn1 = jnp.take_along_axis(logit_BnV, code_Bn[..., None], axis=-1)
    entropy_Bn = jax.nn.logsumexp(logit_BnV, axis=-1) - true_Bn1[..., 0]
    above_Bn = (logit_BnV > true_Bn1).sum(axis=-1)
    accuracy = {f"plan_top{top}": masked_sum(above_Bn < top, valid_Bn) for top in TOP}
    return weighted_mean(entropy_Bn, valid_Bn, count), accuracy


def _action_error(action_BJM, noisy_BKJM, time_BK, velocity_BKJM):
    """Absolute error of the chunk that one straight step from a noisy one leads to, float32[B, K, J, M]."""
    left_BK11 = (1 - time_BK)[..., None, None]
    return jnp.abs(noisy_BKJM + left_BK11 * velocity_BKJM - action_BJM[:, None])
