"""A trained policy as compiled functions on host batches: actions, latent plan, next keyframe."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from farsighted_jax.policy.action_space import with_gripper
from farsighted_jax.policy.flow_matching import overlap_weights
from farsighted_jax.policy.plan_decode import decode_plan
from farsighted_jax.policy.sample import sample_actions
from farsighted_jax.policy.task import PolicyTask

Arrays = Mapping[str, np.ndarray]


class Ongoing(NamedTuple):
    """What is being executed while the next chunk is computed (real-time chunking).

    Attributes:
      action_BJM: float32[B, J, M of the dataset] normalised, from the present step on; anything if unknown.
      num_committed_B: int32[B] first steps that will be executed before the next chunk can be.
      num_known_B: int32[B] steps of `action_BJM` that are known.
    """

    action_BJM: Any
    num_committed_B: Any
    num_known_B: Any


@dataclasses.dataclass(frozen=True)
class Stages:
    """The stages of inference as pure functions of effective parameters; each runs its part once.

    A stage that the policy's layout lacks is left out by whoever calls them, see `before_plan`.

    Attributes:
      task: model, inputs and action spaces.
    """

    task: PolicyTask

    @property
    def groups(self) -> tuple[str, ...]:
        """Token groups of the policy."""
        return self.task.model.layout.groups

    def context(self, params, batch):
        """Frozen networks and group C: a cache, and the embodiments int32[B]."""
        observation = self.task.observation(params, batch)
        return self._apply(params, observation, method="begin"), observation.embodiment_B

    def vision(self, params, cache):
        """Group V: the cache with it, rgb float32[B, H, W, 3] not clipped, depth float32[B, H, W, 1]."""
        return self._apply(params, cache, method="imagine")

    def plan(self, params, cache):
        """Group Z by greedy decoding: code int32[B, t, Z], log_prob float32[B], the cache with it."""
        return decode_plan(self.task.model, params, cache)

    def given_plan(self, params, cache, code_BtZ, code_valid_Bt=None):
        """Group Z of given codes: the cache with it, logits float32[B, t*Z, V]."""
        return self._apply(params, cache, code_BtZ, code_valid_Bt, method="extend_plan")

    def condition(self, params, cache, embodiment_B):
        """Group A: what the flow reads, float[B, J, D]."""
        return self._apply(params, cache, embodiment_B, method="condition")

    def flow(self, params, cache, condition_BJD, embodiment_B, dataset_B, key, ongoing=None):
        """The flow solver, which runs the action head alone: normalised actions float32[B, J, M].

        Steps that an `Ongoing` commits to come out as they are.
        """
        task = self.task
        valid_B1M = task.spaces.flow_dimensions(dataset_B)
        J, M = condition_BJD.shape[1], valid_B1M.shape[-1]
        valid_BJM = jnp.broadcast_to(valid_B1M, (len(condition_BJD), J, M))
        seen = (cache.context_BSD, cache.context_valid_BS)

        def velocity(x_BJM, time_B):
            moment = (condition_BJD, x_BJM, time_B, embodiment_B, valid_BJM)
            return self._apply(params, *moment, *seen, method="velocity")

        known_BJM, weight_BJ1 = _overlap(ongoing, M)
        action_BJM = sample_actions(
            velocity,
            key,
            valid_BJM.shape,
            valid_BJM,
            task.flow.num_steps,
            task.flow.solver,
            known_BJM,
            weight_BJ1,
        )
        if not task.model.discrete_gripper:
            return action_BJM
        logit_BJM = self._apply(params, condition_BJD, method="gripper")
        gripper_B1M = task.spaces.gripper_dimensions(dataset_B)
        action_BJM = with_gripper(action_BJM, logit_BJM, gripper_B1M)
        if ongoing is None:
            return action_BJM
        return jnp.where(gripper_B1M & (weight_BJ1 >= 1), known_BJM, action_BJM)

    def before_plan(self, params, batch):
        """Groups C and V: the cache and the embodiments."""
        cache, embodiment_B = self.context(params, batch)
        if "vision" in self.groups:
            cache, _, _ = self.vision(params, cache)
        return cache, embodiment_B

    def actions(self, params, batch, key, ongoing=None):
        """All stages, for normalised actions float32[B, J, M]; see `flow`."""
        cache, embodiment_B = self.before_plan(params, batch)
        if "plan" in self.groups:
            _, _, cache = self.plan(params, cache)
        condition_BJD = self.condition(params, cache, embodiment_B)
        return self.flow(params, cache, condition_BJD, embodiment_B, batch["dataset"], key, ongoing)

    def decoded(self, params, batch):
        """See `LatentPolicy.plan`."""
        cache, _ = self.before_plan(params, batch)
        code_BtZ, log_prob_B, _ = self.plan(params, cache)
        _, logit_BnV = self.given_plan(params, cache, code_BtZ)
        return {"code": code_BtZ, "log_prob": log_prob_B, "logit": logit_BnV}

    def teacher_forced(self, params, batch):
        """See `LatentPolicy.logits`."""
        cache, _ = self.before_plan(params, batch)
        code_BtZ, valid_Bt = self.task.codes(params, batch)
        _, logit_BnV = self.given_plan(params, cache, code_BtZ, valid_Bt)
        return {"logit": logit_BnV, "code": code_BtZ, "code_valid": valid_Bt}

    def imagined(self, params, batch):
        """See `LatentPolicy.imagined`."""
        cache, _ = self.context(params, batch)
        _, rgb_BHWC, depth_BHW1 = self.vision(params, cache)
        return {"rgb": jnp.clip(rgb_BHWC, 0, 1), "depth": depth_BHW1}

    def _apply(self, params, *arguments, method):
        return self.task.model.apply({"params": params}, *arguments, method=method)


class LatentPolicy:
    """Acts, plans and imagines with fixed weights; a function is compiled at its first call with new shapes.

    Attributes:
      groups: its token groups; a method whose group is missing raises PolicyError.
    """

    def __init__(self, task: PolicyTask, params: Any):
        """Compiles nothing yet.

        Args:
          task: of the run.
          params: its parameters, pretrained networks among them.
        """
        self.groups = task.model.layout.groups
        self._params, self._compiled = task.model_params(params), _compiled(task)

    def actions(self, batch: Arrays, key: jax.Array | None, ongoing: Ongoing | None = None) -> jax.Array:
        """One normalised chunk a sample, float32[B, J, M]; `key` as in `sample_actions`."""
        return self._compiled["actions"](self._params, batch, key, ongoing)

    def plan(self, batch: Arrays) -> dict[str, jax.Array]:
        """The greedy plan.

        Returns:
          code: int32[B, t, Z]; log_prob: float32[B] nats; logit: float32[B, t*Z, V]
          of each code given those chosen before it.
        """
        return self._compiled["decoded"](self._params, batch)

    def logits(self, batch: Arrays) -> dict[str, jax.Array]:
        """The plan under teacher forcing, from a batch with its future.

        Returns:
          logit: float32[B, t*Z, V]; code: int32[B, t, Z] the true codes; code_valid: bool[B, t].
        """
        return self._compiled["teacher_forced"](self._params, batch)

    def imagined(self, batch: Arrays) -> dict[str, jax.Array]:
        """The next keyframe: rgb float32[B, H, W, 3] within [0, 1], depth float32[B, H, W, 1] normalised."""
        return self._compiled["imagined"](self._params, batch)


def _overlap(ongoing, width):
    """Known actions and weights of `sample_actions`."""
    if ongoing is None:
        return None, None
    _, num_steps, known_width = ongoing.action_BJM.shape
    known_BJM = jnp.pad(ongoing.action_BJM, [(0, 0), (0, 0), (0, width - known_width)])
    return known_BJM, overlap_weights(ongoing.num_committed_B, ongoing.num_known_B, num_steps)


@functools.cache
def _compiled(task):
    """Compiled functions by name; policies of the same task share them."""
    stages = Stages(task)
    return {
        name: jax.jit(getattr(stages, name)) for name in ("actions", "decoded", "teacher_forced", "imagined")
    }
