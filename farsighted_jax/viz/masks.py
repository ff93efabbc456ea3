"""A picture of who sees whom in the policy: queries down, keys across."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from farsighted_jax.policy.layout import GROUPS, Layout, visible
from farsighted_jax.viz import charts

HIDDEN, PADDING = "#ffffff", "#d9d9d9"


def attention_mask(path: str | Path, layout: Layout, key_valid_S=None, plan_hidden: bool = False) -> Path:
    """Draws the attention mask of one sample, a cell a pair of tokens.

    A cell has the color of its key's group where the query sees it, is white
    where it does not, and gray in the column of a key that is padding. Layouts
    of up to some hundred tokens stay readable.

    Args:
      path: PNG file to write.
      layout: of the policy.
      key_valid_S: bool[S] over all tokens, False for padding and missing cameras; None: all are valid.
      plan_hidden: whether the codes of the plan are hidden from the actions.

    Returns:
      The path.

    Raises:
      ValueError: a validity of another length than the layout.
    """
    tokens = layout.tokens()
    S = len(tokens.group)
    valid_S = np.ones(S, bool) if key_valid_S is None else np.asarray(key_valid_S)
    if valid_S.shape != (S,):
        raise ValueError(f"key_valid_S: expected bool[{S}] for this layout, found {list(valid_S.shape)}")
    mask_SS = np.asarray(visible(tokens, tokens, valid_S[None], np.array([plan_hidden])))[0, 0]
    figure = charts.new_figure(7.2, 7.4)
    axes = figure.add_subplot()
    axes.imshow(_colored(mask_SS, valid_S, tokens.group), interpolation="nearest")
    for edge in np.cumsum([layout.size(group) for group in layout.groups])[:-1] - 0.5:
        axes.axhline(edge, color="#202020", linewidth=0.8)
        axes.axvline(edge, color="#202020", linewidth=0.8)
    charts.style_axes(axes, "Who sees whom", "key", "query")
    axes.grid(False)
    _name_parts(axes, layout)
    return charts.save(figure, path)


def _colored(mask_SS, valid_S, group_S):
    """uint8[S, S, 3]."""
    rgb = np.array([_rgb(color) for color in (*charts.COLORS[: len(GROUPS)], HIDDEN, PADDING)], np.uint8)
    unseen_S = np.where(valid_S, len(GROUPS), len(GROUPS) + 1)
    return rgb[np.where(mask_SS, group_S[None], unseen_S[None])]


def _rgb(color):
    return [int(color[i : i + 2], 16) for i in (1, 3, 5)]


def _name_parts(axes, layout):
    """A label in the middle of each group, and of each part of the context."""
    parts = (
        ("language", layout.language),
        ("frames", layout.frame_tokens),
        ("proprio", layout.proprio),
        *((group, layout.size(group)) for group in GROUPS[1:]),
    )
    ends = np.cumsum([size for _, size in parts])
    middles = [end - size / 2 - 0.5 for end, (_, size) in zip(ends, parts, strict=True) if size]
    labels = [name for name, size in parts if size]
    axes.set_xticks(middles, labels, rotation=90)
    axes.set_yticks(middles, labels)
