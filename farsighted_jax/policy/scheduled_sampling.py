"""Training on the policy's own codes: a second pass over plan and actions, on what is cached before them."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from farsighted_jax.policy.model import Policy
from farsighted_jax.policy.observation import Observation
from farsighted_jax.policy.outputs import PolicyOutputs


def scheduled_outputs(
    policy: Policy,
    observation: Observation,
    code_BtZ,
    code_valid_Bt,
    replaced_BtZ,
    plan_hidden_B=None,
    noisy_BKJM=None,
    time_BK=None,
    action_valid_BJM=None,
) -> PolicyOutputs:
    """As `Policy.__call__`, with some codes of the teacher replaced by the likeliest ones.

    A `method` for `apply`. A first pass over the plan, under the teacher's codes and without gradient,
    predicts each code from those before it. The logits that are returned come
    from the second pass, so that a plan learns to go on from its own mistakes.
    Context and vision are computed once.

    Args:
      policy: bound by `apply`; with a plan.
      observation: see `Policy.__call__`, as all that follow.
      code_BtZ: see there.
      code_valid_Bt: see there.
      replaced_BtZ: bool[B, t, Z] codes to replace.
      plan_hidden_B: see there.
      noisy_BKJM: see there.
      time_BK: see there.
      action_valid_BJM: see there.
    """
    cache, outputs = policy.begin(observation), PolicyOutputs()
    if policy.layout.size("vision"):
        cache, vision = policy.extend_vision(cache)
        outputs = PolicyOutputs(*vision)
    _, logit_BnV = policy.extend_plan(jax.lax.stop_gradient(cache), code_BtZ, code_valid_Bt)
    predicted_BtZ = jnp.argmax(logit_BnV, axis=-1).astype(code_BtZ.dtype).reshape(code_BtZ.shape)
    code_BtZ = jnp.where(replaced_BtZ, predicted_BtZ, code_BtZ)
    cache, logit_BnV = policy.extend_plan(cache, code_BtZ, code_valid_Bt)
    outputs = outputs._replace(logit_BnV=logit_BnV)
    if not policy.layout.chunk:
        return outputs
    condition_BJD = policy.condition(cache, observation.embodiment_B, plan_hidden_B)
    velocity_BKJM = policy.velocities(
        condition_BJD,
        noisy_BKJM,
        time_BK,
        observation.embodiment_B,
        action_valid_BJM,
        cache.context_BSD,
        cache.context_valid_BS,
    )
    gripper_BJM = policy.gripper(condition_BJD) if policy.discrete_gripper else None
    return outputs._replace(velocity_BKJM=velocity_BKJM, gripper_BJM=gripper_BJM)
