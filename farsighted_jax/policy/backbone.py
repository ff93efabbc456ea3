"""One transformer over context, vision, plan and action: in one pass, or group by group on a cache."""

from __future__ import annotations

import itertools
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

from farsighted_jax.layers.prefix_attention import KeyValues, PrefixTransformer, joined
from farsighted_jax.layers.remat import NONE
from farsighted_jax.policy.context import Context, flat_context
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.layout import Layout, Tokens, visible
from farsighted_jax.policy.positions import GroupPositions

# Sizes (D, blocks, heads); the last three are those of ViT-S, -B and -L.
VARIANTS = {
    "tiny": {"width": 96, "depth": 2, "num_heads": 4},
    "small": {"width": 384, "depth": 12, "num_heads": 6},
    "base": {"width": 768, "depth": 12, "num_heads": 12},
    "large": {"width": 1024, "depth": 24, "num_heads": 16},
}


@flax.struct.dataclass
class Cache:
    """What later groups see of the groups computed so far. No function changes one; each returns a new one.

    Attributes:
      seen: KeyValues, float[depth, B, S, A, K] each.
      valid_BS: bool[B, S].
      groups: names, in the order of the S tokens.
    """

    seen: KeyValues
    valid_BS: Any
    groups: tuple[str, ...] = flax.struct.field(pytree_node=False)


class Backbone(nn.Module):
    """Token groups -> hidden states of each; see `layout` for who sees whom.

    `__call__` computes all groups in one pass, for training. `encode_context`,
    then `extend` group by group, does the same with each group's keys and values
    kept; `plan_step` replaces the plan's `extend` where codes are not yet known.

    Attributes:
      layout: sizes of the groups.
      width: D.
      depth: number of blocks.
      num_heads: A.
      unroll: see `PrefixTransformer`.
      remat: see `PrefixTransformer`.
      dtype: of the computation; parameters are float32.
    """

    layout: Layout
    width: int
    depth: int
    num_heads: int
    unroll: int = 1
    remat: str = NONE
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        """Makes the parts; flax calls it."""
        self.positions = GroupPositions(self.layout, self.width)
        self.transformer = PrefixTransformer(self.depth, self.num_heads, self.unroll, self.remat, self.dtype)

    def __call__(
        self,
        context: Context,
        code_BnD=None,
        code_valid_Bn=None,
        plan_hidden_B=None,
        action_BJD=None,
        vision_BND=None,
    ):
        """All groups in one pass, the plan under teacher forcing.

        Args:
          context: of group C.
          code_BnD: float[B, n, D] embedded codes z1..zn, with a plan in the layout.
          code_valid_Bn: bool[B, n] False where a code is missing: nobody sees it.
          plan_hidden_B: bool[B] samples in which A sees of the plan BOS alone.
          action_BJD: float[B, J or 1, D] added to the action queries (an embodiment), or None.
          vision_BND: float[B, N, D] added to the vision queries (the present frame), or None.

        Returns:
          {group: float[B, S, D]} hidden states. Position i of the plan has seen
          z1..zi and predicts the code after them; the last is for A alone.

        Raises:
          PolicyError: an array whose shape is not that of the layout.
        """
        rows = {"context": flat_context(context, self.layout, self.width)}
        B = rows["context"][0].shape[0]
        given = {"vision": (vision_BND,), "plan": (code_BnD, code_valid_Bn), "action": (action_BJD,)}
        for group in self.layout.groups[1:]:
            rows[group] = self._row(group, B, *given[group])
        x_BSD = jnp.concatenate([self._placed(group, rows[group][0]) for group in rows], axis=1)
        valid_BS = jnp.concatenate([valid for _, valid in rows.values()], axis=1)
        tokens = self.layout.tokens(tuple(rows))
        hidden_BSD, _ = self.transformer(x_BSD, visible(tokens, tokens, valid_BS, plan_hidden_B))
        ends = list(itertools.accumulate(self.layout.size(group) for group in rows))
        return dict(zip(rows, jnp.split(hidden_BSD, ends[:-1], axis=1), strict=True))

    def encode_context(self, context: Context):
        """Group C alone: float[B, S, D] hidden states, and a cache of them."""
        tokens_BSD, valid_BS = flat_context(context, self.layout, self.width)
        return self._group("context", tokens_BSD, valid_BS, None)

    def extend(self, cache: Cache, group: str, tokens_BSD=None, valid_BS=None, plan_hidden_B=None):
        """The next group, all of its tokens at once.

        Args:
          cache: of all groups before it.
          group: "vision", "plan" or "action".
          tokens_BSD: float[B, n, D] embedded codes of a plan; float[B, S or 1, D]
            to add to vision or action queries, or None.
          valid_BS: bool[B, n] which codes of a plan are there; None: all.
          plan_hidden_B: for A, see `__call__`.

        Returns:
          float[B, S, D] hidden states of the group, and the cache with it.

        Raises:
          PolicyError: a group out of turn, or an array whose shape is not that of the layout.
        """
        self._check_turn(cache, group)
        row = self._row(group, cache.valid_BS.shape[0], tokens_BSD, valid_BS)
        return self._group(group, *row, cache, plan_hidden_B)

    def empty_plan(self, cache: Cache) -> KeyValues:
        """Room for the keys and values of a plan that is decoded code by code."""
        depth, B, _, A, K = cache.seen.keys.shape
        room = jnp.zeros((depth, B, self.layout.size("plan"), A, K), cache.seen.keys.dtype)
        return KeyValues(room, room)

    def plan_step(self, cache: Cache, plan: KeyValues, code_BD, index):
        """One token of the plan; those before it stand in `plan`.

        The cache is only read, so that a step writes no more than its own token.

        Args:
          cache: of all groups before the plan.
          plan: of `empty_plan`, or of the step before.
          code_BD: float[B, D] embedded code z_index; not read at index 0, which is BOS.
          index: int32[] 0..n, may be traced; larger ones are not defined.

        Returns:
          float[B, D] hidden state that predicts code index + 1, and the new `plan`.

        Raises:
          PolicyError: a plan out of turn.
        """
        self._check_turn(cache, "plan")
        index = jnp.asarray(index, jnp.int32)
        code_BD = jnp.where(index == 0, 0, code_BD)
        x_BD = code_BD + jnp.asarray(self.positions("plan"))[index]
        keys = self.layout.tokens((*cache.groups, "plan"))
        queries = Tokens(self.layout.tokens(("plan",)).group[:1], index[None])
        # Slots not yet written lie after the index, where causality hides them.
        written_BS = jnp.ones((x_BD.shape[0], self.layout.size("plan")), bool)
        mask = visible(queries, keys, jnp.concatenate([cache.valid_BS, written_BS], axis=1))
        hidden_B1D, plan = self.transformer(x_BD[:, None], mask, cache.seen, plan, index)
        return hidden_B1D[:, 0], plan

    def with_plan(self, cache: Cache, plan: KeyValues) -> Cache:
        """The cache with a plan whose n + 1 steps are done, as A needs it."""
        self._check_turn(cache, "plan")
        done_BS = jnp.ones((cache.valid_BS.shape[0], self.layout.size("plan")), bool)
        return Cache(
            joined((cache.seen, plan)),
            jnp.concatenate([cache.valid_BS, done_BS], axis=1),
            (*cache.groups, "plan"),
        )

    def _group(self, group, tokens_BSD, valid_BS, cache, plan_hidden_B=None):
        groups = () if cache is None else cache.groups
        past = None if cache is None else cache.seen
        key_valid_BS = valid_BS if cache is None else jnp.concatenate([cache.valid_BS, valid_BS], axis=1)
        queries, keys = self.layout.tokens((group,)), self.layout.tokens((*groups, group))
        mask = visible(queries, keys, key_valid_BS, plan_hidden_B)
        hidden_BSD, own = self.transformer(self._placed(group, tokens_BSD), mask, past)
        return hidden_BSD, Cache(joined((past, own)), key_valid_BS, (*groups, group))

    def _placed(self, group, tokens_BSD):
        return (tokens_BSD + self.positions(group)).astype(self.dtype)

    def _row(self, group, B, tokens_BSD, valid_BS=None):
        """Tokens of a group without their positions, and which are valid."""
        S = self.layout.size(group)
        if group != "plan":
            zeros_BSD = jnp.zeros((B, S, self.width), self.dtype)
            if tokens_BSD is not None and tokens_BSD.shape not in ((B, S, self.width), (B, 1, self.width)):
                raise PolicyError(f"{group}: expected {[B, S, self.width]}, found {tokens_BSD.shape}")
            return zeros_BSD if tokens_BSD is None else zeros_BSD + tokens_BSD, jnp.ones((B, S), bool)
        shape = (B, self.layout.num_codes, self.width)
        if tokens_BSD is None or tokens_BSD.shape != shape:
            found = None if tokens_BSD is None else tokens_BSD.shape
            raise PolicyError(f"embedded codes of the plan: expected {list(shape)}, found {found}")
        if valid_BS is None:
            valid_BS = jnp.ones(shape[:2], bool)
        if valid_BS.shape != shape[:2] or valid_BS.dtype != bool:
            raise PolicyError(
                f"valid codes of the plan: expected bool{list(shape[:2])}, "
                f"found {valid_BS.dtype}{list(valid_BS.shape)}"
            )
        codes_BnD = jnp.where(valid_BS[..., None], tokens_BSD, 0)
        return jnp.pad(codes_BnD, ((0, 0), (1, 0), (0, 0))), jnp.pad(
            valid_BS, ((0, 0), (1, 0)), constant_values=True
        )

    def _check_turn(self, cache, group):
        present = self.layout.groups
        if group not in present or cache.groups != present[: present.index(group)]:
            raise PolicyError(f"{group!r} cannot follow {cache.groups}: the groups are {present}, in order")


def abstract_parameters(backbone: Backbone, batch_size: int = 1):
    """Shapes of the parameters of a backbone, without computing any."""
    layout, B, D = backbone.layout, batch_size, backbone.width
    N = layout.grid[0] * layout.grid[1]

    def part(*axes):
        return None if 0 in axes else jax.ShapeDtypeStruct((B, *axes, D), jnp.float32)

    context = Context(part(layout.language), part(layout.frames, layout.views, N), part(layout.proprio))
    return jax.eval_shape(backbone.init, jax.random.key(0), context, part(layout.num_codes))["params"]
