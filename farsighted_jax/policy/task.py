"""The policy as a `core.task.Task`: it learns by one objective, whichever groups of tokens it has."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from farsighted_jax.core.rng import named_key
from farsighted_jax.core.spec import DatasetSpec
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.layers.remat import NONE
from farsighted_jax.policy.action_space import ActionSpaces
from farsighted_jax.policy.adapters import ADAPTERS, adapted, initial_adapters
from farsighted_jax.policy.checks import OWN_TEXT, check_policy
from farsighted_jax.policy.inputs import LAM_ENCODER, OWN_ENCODER, Inputs, LatentActions
from farsighted_jax.policy.layout import Layout
from farsighted_jax.policy.model import VARIANTS, Policy
from farsighted_jax.policy.networks import FrozenNetworks
from farsighted_jax.policy.objective import LossWeights, Objective
from farsighted_jax.policy.observation import Observation
from farsighted_jax.pretrained.models import MODELS

# Of the text encoder that is trained along, by that of the policy.
TEXT_VARIANTS = {"tiny": "tiny", "small": "small", "base": "base", "large": "base"}


@dataclasses.dataclass(frozen=True)
class FlowSettings:
    """How actions are drawn from the flow; see `flow_matching`.

    Attributes:
      num_steps: of the solver.
      solver: key of `flow_matching.SOLVERS`.
    """

    num_steps: int = 10
    solver: str = "euler"


@dataclasses.dataclass(frozen=True)
class PolicyTask:
    """Model, inputs and losses of a policy.

    Attributes:
      objective: what it learns.
      flow: how actions are drawn.
      adapter_rank: of the low-rank adapters, 0 for none.
      adapted_kernels: patterns of the kernels that get one; these are frozen.
      state_width: I of the widest dataset.
    """

    objective: Objective
    flow: FlowSettings = FlowSettings()
    adapter_rank: int = 0
    adapted_kernels: tuple[str, ...] = ()
    state_width: int = 0

    partial_init = True

    @property
    def model(self) -> Policy:
        """The linen module; its parameters are those that `model_params` gives."""
        return self.objective.model

    def without_remat(self) -> PolicyTask:
        """Itself, with nothing computed twice to save memory."""
        kept = dataclasses.replace(self.objective, model=self.model.clone(remat=NONE))
        return dataclasses.replace(self, objective=kept)

    @property
    def inputs(self) -> Inputs:
        """What the model reads."""
        return self.objective.inputs

    @property
    def spaces(self) -> ActionSpaces | None:
        """What the action dimensions mean; None without actions."""
        return self.objective.spaces

    @property
    def fields(self) -> tuple[str, ...]:
        """Batch fields that `observation` reads."""
        return self.inputs.fields

    def init(self, key, batch):
        """See `core.task.Task.init`; there is no model state."""
        networks, layout = {PRETRAINED: self.pretrained_shapes()}, self.model.layout
        shapes = jax.eval_shape(self.inputs.observation, networks, batch)
        observation = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        num = len(batch["dataset"])
        chunk = (num, layout.chunk, self.model.action_width)
        params = self.model.init(
            named_key(key, "params"),
            observation,
            code_BtZ=jnp.zeros((num, layout.transitions, layout.slots), jnp.int32),
            noisy_BKJM=jnp.zeros((num, 1, *chunk[1:])),
            time_BK=jnp.zeros((num, 1)),
            action_valid_BJM=jnp.ones(chunk, bool),
        )["params"]
        if self.adapter_rank:
            adapters = (named_key(key, ADAPTERS), params, self.adapted_kernels, self.adapter_rank)
            params = {**params, ADAPTERS: initial_adapters(*adapters)}
        return params, {}

    def pretrained_shapes(self):
        """See `core.task.Task.pretrained_shapes`; the LAM is one where its weights are needed."""
        networks = self.inputs.networks.shapes()
        return networks | (self.inputs.latent_actions.shapes() if self.inputs.runs_lam else {})

    def denominators(self, batch):
        """See `core.task.Task.denominators`."""
        return self.objective.denominators(batch)

    def loss(self, params, model_state, batch, key, denominators):
        """See `core.task.Task.loss`; there are no updates."""
        loss, metrics = self.objective.loss(self.model_params(params), batch, key, denominators)
        return loss, (metrics, {})

    def merge_updates(self, first, second):
        """See `core.task.Task.merge_updates`."""
        return {}

    def next_model_state(self, model_state, updates):
        """See `core.task.Task.next_model_state`."""
        return {}, {}

    def restarted_model_state(self, model_state, updates):
        """See `core.task.Task.restarted_model_state`."""
        return model_state

    def model_params(self, params):
        """Parameters as `model` takes them: adapters are in their kernels."""
        return adapted(params)

    def observation(self, params, batch) -> Observation:
        """What the model is told and sees; see `Inputs.observation`."""
        return self.inputs.observation(params, batch)

    def codes(self, params, batch):
        """Codes of the true future, int32[B, t, Z], and which are there, bool[B, t]."""
        return self.inputs.codes(params, batch), self.inputs.code_valid(batch)


def policy_task(
    config: Mapping[str, Any], latent_actions: LatentActions | None, specs: Mapping[str, DatasetSpec]
) -> PolicyTask:
    """Builds the task from a run's configuration.

    Args:
      config: see `configs/policy_pretrain.py`.
      latent_actions: the frozen LAM, or None.
      specs: dataset -> specification, in the order of the batch field `dataset`.

    Raises:
      ConfigError: see `checks`.
    """
    check_policy(config, latent_actions, specs)
    model, weights, plan = config["model"], config["loss"], config["plan"]
    inputs = _inputs(config, latent_actions, specs)
    spaces = None
    if model["action"]:
        discrete = model["gripper"] == "discrete"
        spaces = ActionSpaces(tuple(spec.action for spec in specs.values()), discrete_gripper=discrete)
    objective = Objective(
        _policy(config, inputs, spaces),
        inputs,
        LossWeights(**{key: weights[key] for key in weights}),
        spaces,
        plan["dropout"],
        plan["scheduled_sampling"],
        config["flow"]["draws"],
    )
    flow = FlowSettings(config["flow"]["num_steps"], config["flow"]["solver"])
    state_width = max(len(spec.state_names) for spec in specs.values())
    return PolicyTask(
        objective, flow, model["adapter_rank"], tuple(config["optimizer"]["freeze"]), state_width
    )


def _inputs(config, latent_actions, specs):
    model = config["model"]
    image_encoder, text_encoder = model["image_encoder"], model["text_encoder"]
    stored_text = bool(config["data"]["text_features"])
    networks = FrozenNetworks(
        image_encoder if image_encoder in MODELS else "",
        text_encoder if text_encoder in MODELS and not stored_text else "",
        config["loss"]["lpips"] > 0,
        jnp.dtype(model["dtype"]),
    )
    return Inputs(
        image_encoder,
        text_encoder,
        model["depth_input"] == "fuse",
        model["proprio"] and any(spec.state_key for spec in specs.values()),
        config["plan"]["codes"] == "stored",
        stored_text,
        latent_actions if model["plan"] or image_encoder == LAM_ENCODER else None,
        networks,
    )


def _policy(config, inputs, spaces):
    model, data = config["model"], config["data"]
    side = data["resolution"] // model["patch"]
    layout = Layout(
        language=data["text_length"] if model["text_encoder"] else 0,
        frames=len(data["history_s"]) + 1,
        views=len(data["cameras"]),
        grid=(side, side),
        proprio=int(inputs.reads_proprio),
        vision_grid=(side, side) if model["vision"] else (0, 0),
        transitions=len(data["offsets_s"]) if model["plan"] else 0,
        slots=inputs.latent_actions.num_slots if model["plan"] else 0,
        chunk=data["action_horizon"] if model["action"] else 0,
    )
    return Policy(
        layout,
        **VARIANTS[model["variant"]],
        codebook_size=inputs.latent_actions.codebook_size if model["plan"] else 0,
        patch=model["patch"],
        action_width=spaces.width if spaces else 0,
        num_embodiments=model["num_embodiments"],
        own_frames=model["image_encoder"] == OWN_ENCODER,
        depth_input="fuse" if inputs.fuses_depth else "none",
        text=TEXT_VARIANTS[model["variant"]] if model["text_encoder"] == OWN_TEXT else "",
        num_keypoints=model["num_keypoints"],
        vision_from_frame=model["vision_queries"] == "frame",
        residual=model["residual"],
        token_width=inputs.token_width if config["loss"]["feature"] else 0,
        action_context=model["action_context"],
        discrete_gripper=bool(spaces and spaces.discrete_gripper),
        unroll=model["unroll"],
        remat=model["remat"],
        dtype=jnp.dtype(model["dtype"]),
    )
