"""Token groups of the policy and who sees whom: one table, one rule that makes a mask of it."""

from __future__ import annotations

import dataclasses
import enum
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from farsighted_jax.policy.errors import PolicyError


class Sight(enum.IntEnum):
    """What the queries of one group see of the keys of another."""

    NONE = 0
    ALL = 1
    CAUSAL = 2


# In the order in which they are computed; caches and masks rely on it.
GROUPS = ("context", "vision", "plan", "action")
CONTEXT, VISION, PLAN, ACTION = range(len(GROUPS))

# Row: query, column: key. Zero above the diagonal: no group is seen by an earlier one, so that what
# is cached of a group never changes when the next one is computed.
SIGHT = np.array(
    [
        [Sight.ALL, Sight.NONE, Sight.NONE, Sight.NONE],
        [Sight.ALL, Sight.ALL, Sight.NONE, Sight.NONE],
        [Sight.ALL, Sight.ALL, Sight.CAUSAL, Sight.NONE],
        [Sight.ALL, Sight.ALL, Sight.ALL, Sight.ALL],
    ],
    np.int32,
)


class Tokens(NamedTuple):
    """Group and position within it of each of S tokens, int32[S]; a position may be traced."""

    group: np.ndarray
    position: np.ndarray


@dataclasses.dataclass(frozen=True)
class Layout:
    """How many tokens of which kind a policy has; a group of size 0 is left out.

    Attributes:
      language: L language tokens.
      frames: T history frames, the present one included.
      views: P cameras; the first is the one that V predicts.
      grid: patch rows and columns of a frame (Y, X), Y * X = N.
      proprio: proprioception tokens.
      vision_grid: rows and columns of the visual prediction queries; (0, 0) for no V.
      transitions: t of the latent plan; 0 for no Z.
      slots: Z codes a transition.
      chunk: J steps of an action chunk; 0 for no A.
    """

    language: int
    frames: int
    views: int
    grid: tuple[int, int]
    proprio: int
    vision_grid: tuple[int, int]
    transitions: int
    slots: int
    chunk: int

    def __post_init__(self):
        """Refuses negative sizes and an empty context.

        Raises:
          PolicyError: naming the field, its value and what is expected.
        """
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if np.min(value) < 0:
                raise PolicyError(f"layout.{field.name} must be >= 0, found {value}")
        if not self.size("context"):
            raise PolicyError(f"the context is empty: give language, frames or proprio a token, found {self}")
        if self.transitions and not self.slots:
            raise PolicyError(f"layout.slots must be >= 1 with {self.transitions} transitions, found 0")

    @property
    def num_codes(self) -> int:
        """How many codes a plan has, n = t * Z."""
        return self.transitions * self.slots

    @property
    def frame_tokens(self) -> int:
        """Tokens of all history frames of all views, T * P * N."""
        return self.frames * self.views * self.grid[0] * self.grid[1]

    def size(self, group: str) -> int:
        """Tokens of a group. The plan's are BOS and its n codes."""
        return {
            "context": self.language + self.frame_tokens + self.proprio,
            "vision": self.vision_grid[0] * self.vision_grid[1],
            "plan": self.num_codes + 1 if self.num_codes else 0,
            "action": self.chunk,
        }[group]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups that have tokens, in the order of `GROUPS`."""
        return tuple(group for group in GROUPS if self.size(group))

    def tokens(self, groups: tuple[str, ...] = GROUPS) -> Tokens:
        """Group and position of the tokens of some groups, int32[S] each."""
        sizes = [self.size(group) for group in groups]
        return Tokens(
            np.repeat([GROUPS.index(group) for group in groups], sizes).astype(np.int32),
            np.concatenate([np.arange(size, dtype=np.int32) for size in sizes]),
        )


def visible(queries: Tokens, keys: Tokens, key_valid_BS=None, plan_hidden_B=None):
    """Which query may look at which key: the table, causality within Z and validity in one rule.

    Args:
      queries: of Q tokens.
      keys: of S tokens.
      key_valid_BS: bool[B, S] False for padding, which nobody sees; None: all are valid.
      plan_hidden_B: bool[B] samples in which A sees of the plan BOS alone; None: none.

    Returns:
      bool[B or 1, 1, Q, S], the 1 for the heads.
    """
    sight_QS = SIGHT[queries.group[:, None], keys.group]
    not_later_QS = keys.position <= queries.position[:, None]
    allowed_BQS = ((sight_QS == Sight.ALL) | (sight_QS == Sight.CAUSAL) & not_later_QS)[None]
    if key_valid_BS is not None:
        allowed_BQS = allowed_BQS & key_valid_BS[:, None]
    if plan_hidden_B is not None:
        code_S = (keys.group == PLAN) & (keys.position > 0)
        hidden_QS = (queries.group == ACTION)[:, None] & code_S
        allowed_BQS = allowed_BQS & ~(hidden_QS & plan_hidden_B[:, None, None])
    return jnp.asarray(allowed_BQS)[:, None]
