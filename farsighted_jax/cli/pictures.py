"""Predicted clips as a sheet (PNG) or a film (mp4)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from farsighted_jax.viz import film, strips, tiles
from farsighted_jax.viz.depth import depth_colors

SUFFIXES = (".png", ".mp4")
FILM_FPS = 20.0
# A clip lasts a second or less; a film repeats it until it can be watched.
FILM_SECONDS = 3.0


class PictureError(ValueError):
    """A picture cannot be written under that name."""


@dataclasses.dataclass(frozen=True)
class Panel:
    """One clip, true or predicted.

    Attributes:
      label: lines at its left.
      first: uint8[H, W, 3] frame 0.
      rgb: uint8 or float (within [0, 1]) [t, H, W, 3] the frames after it.
      time_s: float[t] seconds after frame 0.
      code: int[t, Z] codes to write under the frames, or None.
      depth_m: float[t, H, W, 1] depth in metres, or None.
    """

    label: tuple[str, ...]
    first: np.ndarray
    rgb: np.ndarray
    time_s: np.ndarray
    code: np.ndarray | None = None
    depth_m: np.ndarray | None = None

    def frames(self) -> np.ndarray:
        """uint8[T, H, W, 3], frame 0 first."""
        rgb = self.rgb if self.rgb.dtype == np.uint8 else strips.shown_rgb(self.rgb)
        return np.concatenate([self.first[None], rgb])

    def captions(self) -> Sequence[str]:
        """Codes under the frames, where there are any."""
        return ("",) * (len(self.rgb) + 1) if self.code is None else strips.code_captions(self.code)


def check_picture(path: Path) -> None:
    """Raises PictureError unless the name ends in one of `SUFFIXES`."""
    if path.suffix not in SUFFIXES:
        raise PictureError(f"{path}: pictures are written as one of {SUFFIXES}")


def write_picture(path: Path, groups: Sequence[Sequence[Panel]], footer: Sequence[str]) -> Path:
    """Writes clips as a sheet, one row each, or as a film.

    Args:
      path: .png or .mp4.
      groups: clips that belong together; a film shows those of a group side by
        side and the groups one after the other.
      footer: lines under the sheet.

    Returns:
      The path.
    """
    if path.suffix == ".mp4":
        return film.write_mp4(path, _film_frames(groups), FILM_FPS)
    panels = [panel for group in groups for panel in group]
    rows = []
    for panel in panels:
        everywhere = np.ones(len(panel.rgb) + 1, bool)
        rows.append(strips.Strip(panel.label, panel.frames(), everywhere, panel.captions()))
        if panel.depth_m is not None:
            rows.append(_depth_strip(panel))
    same_times = all(np.allclose(panel.time_s, panels[0].time_s) for panel in panels)
    times = panels[0].time_s if same_times else []
    titles = strips.frame_titles(np.array([0.0, *times]))
    if not same_times:
        titles = ("frame 0", *(f"frame {k}" for k in range(1, len(panels[0].rgb) + 1)))
    return tiles.write_png(path, strips.strip_sheet(titles, rows, footer))


def _depth_strip(panel):
    colors = _depth_frames(panel.depth_m)
    frames = np.concatenate([np.full_like(colors[:1], 255), colors])
    near, far = _depth_range(panel.depth_m)
    label = ("depth", f"{near:.2f} m to", f"{far:.2f} m")
    return strips.Strip(label, frames, np.ones(len(frames), bool), ("",) * len(frames))


def _depth_range(depth_m):
    near, far = np.percentile(depth_m, [2, 98])
    return float(near), float(max(far, near * 1.01))


def _depth_frames(depth_m_tHW1):
    near, far = _depth_range(depth_m_tHW1)
    everywhere = np.ones(depth_m_tHW1.shape[1:3], bool)
    return np.stack([depth_colors(depth_HW1[..., 0], everywhere, near, far) for depth_HW1 in depth_m_tHW1])


def _film_frames(groups):
    for group in groups:
        shown = [[tiles.upscaled(frame) for frame in panel.frames()] for panel in group]
        for panel in group:
            if panel.depth_m is not None:
                depth = [tiles.upscaled(frame) for frame in _depth_frames(panel.depth_m)]
                shown.append([np.zeros_like(depth[0]), *depth])
        joined = [np.concatenate(frames, axis=1) for frames in zip(*shown, strict=True)]
        clip = film.held(joined, np.array([0.0, *group[0].time_s]), FILM_FPS)
        for _ in range(max(1, round(FILM_SECONDS * FILM_FPS / len(clip)))):
            yield from clip
