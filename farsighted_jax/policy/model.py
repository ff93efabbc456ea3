"""SSM-VLA as a linen module: observation -> next keyframe -> latent plan -> actions. Losses stay outside."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from farsighted_jax.layers.prefix_attention import KeyValues
from farsighted_jax.layers.remat import NONE
from farsighted_jax.policy import action_head, backbone
from farsighted_jax.policy.action_head import ActionHead, GripperHead
from farsighted_jax.policy.backbone import Backbone
from farsighted_jax.policy.context import flat_context
from farsighted_jax.policy.context_encoder import ContextEncoder
from farsighted_jax.policy.cot_head import VisionHead
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.layout import Layout
from farsighted_jax.policy.observation import Observation
from farsighted_jax.policy.outputs import PolicyCache, PolicyOutputs
from farsighted_jax.policy.plan_head import PlanHead

# The action head is as wide as the backbone of its name.
VARIANTS = {
    name: {**sizes, "head_depth": action_head.VARIANTS[name]["depth"]}
    for name, sizes in backbone.VARIANTS.items()
}


class Policy(nn.Module):
    """Visual chain of thought, latent plan and flow-matching actions on one transformer.

    `__call__` does all in one pass, for training. `begin`, `imagine`, a plan
    (`extend_plan`, or code by code as in `plan_decode`) and `condition` do the
    same in stages, each once; `velocity` then needs the condition alone, so that
    no solver runs the transformer again. Stages that the layout lacks are left out.

    Attributes:
      layout: sizes of the token groups.
      width: D.
      depth: blocks of the transformer.
      num_heads: A.
      head_depth: blocks of the action head.
      codebook_size: V; with a plan in the layout.
      patch: pixels a patch.
      action_width: M of the widest action space; with actions in the layout.
      num_embodiments: action spaces that are told apart.
      own_frames: see `ContextEncoder`.
      depth_input: see `ContextEncoder`.
      text: see `ContextEncoder`.
      num_keypoints: see `ContextEncoder`.
      vision_from_frame: whether the vision queries start from the tokens of the present frame, patch by
        patch, as far as their grids agree.
      residual: see `VisionHead`.
      token_width: see `VisionHead`.
      action_context: whether the action head reads the context beside the condition.
      discrete_gripper: whether there is a head for an open or closed gripper.
      unroll: blocks a loop iteration; results do not change.
      remat: key of `layers.remat.POLICIES`, of the transformer and the action head.
      dtype: of the computation; parameters and outputs are float32.
    """

    layout: Layout
    width: int
    depth: int
    num_heads: int
    head_depth: int
    codebook_size: int
    patch: int
    action_width: int = 0
    num_embodiments: int = 1
    own_frames: bool = True
    depth_input: str = "none"
    text: str = ""
    num_keypoints: int = 0
    vision_from_frame: bool = False
    residual: bool = False
    token_width: int = 0
    action_context: bool = False
    discrete_gripper: bool = False
    unroll: int = 1
    remat: str = NONE
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Makes the parts that the layout asks for; flax calls it."""
        layout, D, unroll, dtype = self.layout, self.width, self.unroll, self.dtype
        self.context_encoder = ContextEncoder(
            layout,
            D,
            self.patch,
            self.own_frames,
            self.depth_input,
            self.text,
            self.num_keypoints,
            unroll,
            dtype,
        )
        self.backbone = Backbone(layout, D, self.depth, self.num_heads, unroll, self.remat, dtype)
        if layout.size("vision"):
            self.vision_head = VisionHead(layout.vision_grid, self.patch, self.residual, self.token_width)
        if layout.num_codes:
            self.plan_head = PlanHead(layout.slots, self.codebook_size, D)
        if layout.chunk:
            # As small as the learned action queries that it is added to.
            start = nn.initializers.normal(0.02)
            self.embodiment = nn.Embed(self.num_embodiments, D, embedding_init=start, dtype=dtype)
            self.action_head = ActionHead(
                D,
                self.head_depth,
                self.num_heads,
                self.action_width,
                self.num_embodiments,
                unroll,
                self.remat,
                dtype,
            )
            if self.discrete_gripper:
                self.gripper_head = GripperHead(self.action_width, dtype)

    def __call__(
        self,
        observation: Observation,
        code_BtZ=None,
        code_valid_Bt=None,
        plan_hidden_B=None,
        noisy_BKJM=None,
        time_BK=None,
        action_valid_BJM=None,
    ) -> PolicyOutputs:
        """All groups in one pass, the plan under teacher forcing, the velocity at K points a sample.

        Args:
          observation: of B moments.
          code_BtZ: int32[B, t, Z] codes of the true future; may hold anything where not valid.
          code_valid_Bt: bool[B, t]; None: all are valid.
          plan_hidden_B: bool[B] samples in which the actions see no code; None: none.
          noisy_BKJM: see `velocities`.
          time_BK: see `velocities`.
          action_valid_BJM: see `ActionHead`.

        Returns:
          What the layout has.

        Raises:
          PolicyError: a missing input, or one whose shape is not that of the layout.
        """
        context = self.context_encoder(observation)
        vision_BND = self._present_tokens(context)
        code_BnD, code_valid_Bn, action_B1D = None, None, None
        if self.layout.num_codes:
            code_BnD, code_valid_Bn = self._embedded(code_BtZ, code_valid_Bt)
        if self.layout.chunk:
            action_B1D = self._embodied(*observation.required("embodiment_B"))
        hidden = self.backbone(context, code_BnD, code_valid_Bn, plan_hidden_B, action_B1D, vision_BND)
        outputs = PolicyOutputs()
        if "vision" in hidden:
            outputs = PolicyOutputs(*self.vision_head(hidden["vision"], self._present_frame(observation)))
        if "plan" in hidden:
            outputs = outputs._replace(logit_BnV=self.plan_head.logits(hidden["plan"]))
        if "action" not in hidden:
            return outputs
        kept = self._kept_context(hidden["context"], flat_context(context, self.layout, self.width)[1])
        points = (noisy_BKJM, time_BK, observation.embodiment_B, action_valid_BJM)
        velocity_BKJM = self.velocities(hidden["action"], *points, *kept)
        return outputs._replace(velocity_BKJM=velocity_BKJM, gripper_BJM=self.gripper(hidden["action"]))

    def begin(self, observation: Observation) -> PolicyCache:
        """Encodes the context: all that is ever read of an observation but its embodiment."""
        context = self.context_encoder(observation)
        context_BSD, groups = self.backbone.encode_context(context)
        kept = self._kept_context(context_BSD, groups.valid_BS)
        return PolicyCache(groups, *kept, self._present_frame(observation), self._present_tokens(context))

    def imagine(self, cache: PolicyCache):
        """Predicts the next keyframe.

        Args:
          cache: of `begin`.

        Returns:
          The cache with V, rgb float32[B, H, W, 3] and depth float32[B, H, W, 1], see `VisionHead`.

        Raises:
          PolicyError: V out of turn, or not in the layout.
        """
        cache, (rgb_BHWC, depth_BHW1, _) = self.extend_vision(cache)
        return cache, rgb_BHWC, depth_BHW1

    def extend_vision(self, cache: PolicyCache):
        """As `imagine`, with all that `VisionHead` gives."""
        cache, hidden_BND = self._extended(cache, "vision", cache.vision_BND)
        return cache, self.vision_head(hidden_BND, cache.frame_BHWC)

    def extend_plan(self, cache: PolicyCache, code_BtZ, code_valid_Bt=None):
        """Puts a given plan on a cache, all codes at once.

        Args:
          cache: of all groups before the plan.
          code_BtZ: see `__call__`.
          code_valid_Bt: see `__call__`.

        Returns:
          The cache with the plan, and the logits of its codes, float32[B, n, V].

        Raises:
          PolicyError: a plan out of turn, or of a shape that is not the layout's.
        """
        cache, hidden_BSD = self._extended(cache, "plan", *self._embedded(code_BtZ, code_valid_Bt))
        return cache, self.plan_head.logits(hidden_BSD)

    def empty_plan(self, cache: PolicyCache) -> KeyValues:
        """See `Backbone.empty_plan`."""
        self._check_has("plan")
        return self.backbone.empty_plan(cache.groups)

    def plan_step(self, cache: PolicyCache, plan: KeyValues, code_B, index):
        """One code of a plan, as `Backbone.plan_step` with the code itself.

        Args:
          cache: of all groups before the plan.
          plan: of `empty_plan`, or of the step before.
          code_B: int32[B] code z_index; not read at index 0.
          index: int32[] 0..n, may be traced.

        Returns:
          float32[B, V] logits of code index + 1 (at index n they mean nothing), and the new `plan`.
        """
        code_BD = self.plan_head.embed_at(code_B, index)
        hidden_BD, plan = self.backbone.plan_step(cache.groups, plan, code_BD, index)
        return self.plan_head.logits_at(hidden_BD, index), plan

    def with_plan(self, cache: PolicyCache, plan: KeyValues) -> PolicyCache:
        """See `Backbone.with_plan`."""
        return cache.replace(groups=self.backbone.with_plan(cache.groups, plan))

    def condition(self, cache: PolicyCache, embodiment_B, plan_hidden_B=None):
        """Features of the action queries, float[B, J, D]: what `velocity` and `gripper` read.

        Args:
          cache: of all groups before the actions.
          embodiment_B: int32[B].
          plan_hidden_B: see `__call__`.

        Raises:
          PolicyError: actions out of turn, or not in the layout.
        """
        self._check_has("action")
        return self._extended(cache, "action", self._embodied(embodiment_B), None, plan_hidden_B)[1]

    def velocity(
        self,
        condition_BJD,
        noisy_BJM,
        time_B,
        embodiment_B,
        valid_BJM,
        context_BSD=None,
        context_valid_BS=None,
    ):
        """Velocity of a noisy chunk, float32[B, J, M], see `ActionHead`; it runs the action head alone.

        With `action_context` the last two are those of the cache.

        Raises:
          PolicyError: no chunk, or no context where the head reads it.
        """
        self._check_given(
            {"noisy_BJM": noisy_BJM, "time_B": time_B}, valid_BJM, context_BSD, context_valid_BS
        )
        context = (context_BSD, context_valid_BS) if self.action_context else ()
        return self.action_head(noisy_BJM, time_B, condition_BJD, embodiment_B, valid_BJM, *context)

    def velocities(
        self,
        condition_BJD,
        noisy_BKJM,
        time_BK,
        embodiment_B,
        valid_BJM,
        context_BSD=None,
        context_valid_BS=None,
    ):
        """As `velocity`, for K noisy chunks a sample, float32[B, K, J, M]; the condition is that of one."""
        given = {"noisy_BKJM": noisy_BKJM, "time_BK": time_BK}
        self._check_given(given, valid_BJM, context_BSD, context_valid_BS)
        B, K, J, M = noisy_BKJM.shape

        def repeated(x):
            return None if x is None else jnp.repeat(x, K, axis=0)

        points = noisy_BKJM.reshape(B * K, J, M), time_BK.reshape(B * K)
        sample = map(repeated, (embodiment_B, valid_BJM, context_BSD, context_valid_BS))
        return self.velocity(repeated(condition_BJD), *points, *sample).reshape(B, K, J, M)

    def gripper(self, condition_BJD):
        """Logits of an open gripper, float32[B, J, M], see `GripperHead`; None without `discrete_gripper`."""
        return self.gripper_head(condition_BJD) if self.discrete_gripper else None

    def _extended(self, cache, group, *inputs):
        self._check_has(group)
        hidden_BSD, groups = self.backbone.extend(cache.groups, group, *inputs)
        return cache.replace(groups=groups), hidden_BSD

    def _check_has(self, group):
        if group not in self.layout.groups:
            raise PolicyError(f"this policy has no {group!r}, its groups are {self.layout.groups}")

    def _check_given(self, points, valid_BJM, context_BSD, context_valid_BS):
        needed = points | {"valid_BJM": valid_BJM}
        if self.action_context:
            needed |= {"context_BSD": context_BSD, "context_valid_BS": context_valid_BS}
        if missing := [name for name, value in needed.items() if value is None]:
            raise PolicyError(f"the action head reads {sorted(needed)}, found none of {missing}")

    def _embedded(self, code_BtZ, code_valid_Bt):
        """The plan as the backbone reads it: float32[B, n, D] and bool[B, n]."""
        self._check_has("plan")
        t, Z = self.layout.transitions, self.layout.slots
        if code_BtZ is None or code_BtZ.shape[1:] != (t, Z):
            found = None if code_BtZ is None else list(code_BtZ.shape)
            raise PolicyError(f"codes of the plan: expected int32[B, {t}, {Z}], found {found}")
        if code_valid_Bt is None:
            code_valid_Bt = jnp.ones(code_BtZ.shape[:2], bool)
        if code_valid_Bt.shape != code_BtZ.shape[:2]:
            raise PolicyError(
                f"valid codes of the plan: expected bool{list(code_BtZ.shape[:2])}, "
                f"found {list(code_valid_Bt.shape)}"
            )
        return self.plan_head.embed(code_BtZ, code_valid_Bt), jnp.repeat(code_valid_Bt, Z, axis=1)

    def _embodied(self, embodiment_B):
        return self.embodiment(embodiment_B)[:, None]

    def _kept_context(self, context_BSD, valid_BS):
        return (context_BSD, valid_BS) if self.action_context else (None, None)

    def _present_tokens(self, context):
        """Tokens of the last frame of the first camera, 0 where it is missing; or None."""
        layout = self.layout
        reads = self.vision_from_frame and layout.size("vision") and layout.frame_tokens
        if not reads or layout.vision_grid != layout.grid:
            return None
        present_BND = context.frames[:, -1, 0]
        if context.frame_valid is None:
            return present_BND
        return jnp.where(context.frame_valid[:, -1, 0, None, None], present_BND, 0)

    def _present_frame(self, observation):
        """The last frame of the first camera, black where it is missing, or None where nothing reads it."""
        if not (self.residual and self.layout.size("vision")):
            return None
        (rgb_BRPHWC,) = observation.required("rgb_BRPHWC")
        frame_BHWC = rgb_BRPHWC[:, -1, 0]
        if observation.frame_valid_BRP is None:
            return frame_BHWC
        return jnp.where(observation.frame_valid_BRP[:, -1, 0, None, None, None], frame_BHWC, 0)


def abstract_parameters(policy: Policy, observation: Observation):
    """Shapes of the parameters of a policy, without computing any; of the observation its shapes are read."""
    layout = policy.layout
    (B,) = {leaf.shape[0] for leaf in jax.tree.leaves(observation)}
    J, M = layout.chunk, policy.action_width
    code_BtZ = jax.ShapeDtypeStruct((B, layout.transitions, layout.slots), jnp.int32)
    noisy_BKJM = jax.ShapeDtypeStruct((B, 1, J, M), jnp.float32)

    def init(observation, code_BtZ, noisy_BKJM):
        arguments = (code_BtZ, None, None, noisy_BKJM, jnp.zeros((B, 1)), jnp.ones((B, J, M), bool))
        return policy.init(jax.random.key(0), observation, *arguments)["params"]

    return jax.eval_shape(init, observation, code_BtZ, noisy_BKJM)
