"""Sheets of clips: keyframes in a row, with what is known of each under it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from farsighted_jax.viz import tiles


class Strip(NamedTuple):
    """One row: a label (lines), frames uint8[T, H, W, 3], which exist bool[T], and a caption each."""

    label: tuple[str, ...]
    frames: np.ndarray
    valid: np.ndarray
    captions: Sequence[str]


def frame_titles(time_s: np.ndarray) -> tuple[str, ...]:
    """A head for each column of clips that share their times, float[T] seconds."""
    return ("frame 0", *(f"+{time:.3f}".rstrip("0").rstrip(".") + " s" for time in time_s[1:]))


def code_captions(code_tZ: np.ndarray) -> tuple[str, ...]:
    """The codes of each transition under its frame; nothing under frame 0."""
    return ("", *(" ".join(map(str, code_Z)) for code_Z in np.asarray(code_tZ).tolist()))


def strip_sheet(titles: Sequence[str], strips: Sequence[Strip], footer: Sequence[str] = ()) -> np.ndarray:
    """Lays out strips below each other, uint8[H, W, 3] RGB.

    Args:
      titles: one a column.
      strips: at least one; all with as many frames as there are titles.
      footer: lines under the sheet.
    """
    rows = [tiles.Row(strip.label, tuple((tile,) for tile in _tiles(strip))) for strip in strips]
    return tiles.sheet(tuple(titles), (("",),) * len(titles), rows, tuple(footer))


def _tiles(strip):
    for frame, valid, caption in zip(strip.frames, strip.valid, strip.captions, strict=True):
        shown = tiles.upscaled(frame)
        yield tiles.Tile(shown, caption) if valid else tiles.missing_tile(*shown.shape[:2])


def shown_rgb(rgb_tHWC: np.ndarray) -> np.ndarray:
    """Predicted frames float[..., H, W, 3] within [0, 1] as uint8."""
    return np.rint(np.clip(np.nan_to_num(np.asarray(rgb_tHWC)), 0, 1) * 255).astype(np.uint8)
