"""Sheets of labelled picture tiles: upscaling, placeholders, headers, captions. Plain cv2."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np

FONT = cv2.FONT_HERSHEY_SIMPLEX
FONT_SCALE = 0.42
INK, FAINT, PAPER = (32, 32, 32), (110, 110, 110), (255, 255, 255)
TILE_PX = 128
GAP, GROUP_GAP, MARGIN = 4, 14, 12
LINE = 18
LABEL_WIDTH = 96


@dataclasses.dataclass(frozen=True)
class Tile:
    """A picture uint8[H, W, 3] with a caption under it."""

    image: np.ndarray
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of a sheet: a label (lines) at the left, and the tiles of each group of columns."""

    label: tuple[str, ...]
    groups: tuple[tuple[Tile, ...], ...]


def upscaled(image_HWC: np.ndarray) -> np.ndarray:
    """Enlarged by the whole number that brings the shorter side to `TILE_PX` or just above; never shrunk."""
    factor = max(1, -(-TILE_PX // min(image_HWC.shape[:2])))
    return np.repeat(np.repeat(image_HWC, factor, axis=0), factor, axis=1)


def missing_tile(height: int, width: int, text: str = "no frame") -> Tile:
    """A gray hatched placeholder of an (already upscaled) tile."""
    y, x = np.mgrid[:height, :width]
    stripe = ((x + y) // 6) % 2 == 0
    image = np.where(stripe[..., None], np.uint8(205), np.uint8(225)).repeat(3, axis=2)
    (text_width, text_height), _ = cv2.getTextSize(text, FONT, FONT_SCALE, 1)
    left, base = (width - text_width) // 2, (height + text_height) // 2
    cv2.rectangle(image, (left - 6, base - text_height - 6), (left + text_width + 6, base + 6), PAPER, -1)
    write_text(image, text, left, base, FAINT)
    return Tile(image)


def write_text(canvas: np.ndarray, text: str, left: int, base: int, color=INK) -> None:
    """Writes one line; `base` is the pixel row of its base line."""
    cv2.putText(canvas, text, (left, base), FONT, FONT_SCALE, color, 1, cv2.LINE_AA)


def sheet(
    titles: tuple[str, ...], columns: tuple[tuple[str, ...], ...], rows: list[Row], footer: tuple[str, ...]
) -> np.ndarray:
    """Lays out tiles of equal size.

    Args:
      titles: title of each group of columns.
      columns: heads of the columns in each group.
      rows: at least one; tiles in the order of `columns`.
      footer: lines under the sheet.

    Returns:
      uint8[H, W, 3] RGB.
    """
    height, width = rows[0].groups[0][0].image.shape[:2]
    lefts, cursor = [], MARGIN + LABEL_WIDTH
    for group in columns:
        lefts.append([cursor + i * (width + GAP) for i in range(len(group))])
        cursor += len(group) * (width + GAP) - GAP + GROUP_GAP
    widest = max([0] + [cv2.getTextSize(line, FONT, FONT_SCALE, 1)[0][0] for line in footer])
    total_width = max(cursor - GROUP_GAP, MARGIN + widest) + MARGIN
    top = MARGIN + 2 * LINE + 4
    pitch = height + LINE + 8
    canvas = np.full((top + len(rows) * pitch + len(footer) * LINE + MARGIN, total_width, 3), 255, np.uint8)
    for title, heads, left in zip(titles, columns, lefts, strict=True):
        write_text(canvas, title, left[0], MARGIN + 12)
        right = left[-1] + width - 1
        cv2.line(canvas, (left[0], MARGIN + LINE), (right, MARGIN + LINE), (200, 200, 200), 1)
        for head, x in zip(heads, left, strict=True):
            write_text(canvas, head, x, MARGIN + 2 * LINE - 3, FAINT)
    for index, row in enumerate(rows):
        _draw_row(canvas, row, lefts, top + index * pitch)
    for index, line in enumerate(footer):
        write_text(canvas, line, MARGIN, top + len(rows) * pitch + 10 + index * LINE, FAINT)
    return canvas


def _draw_row(canvas, row, lefts, top):
    for line, text in enumerate(row.label):
        write_text(canvas, text, MARGIN, top + 14 + line * LINE)
    for tiles, group in zip(row.groups, lefts, strict=True):
        for tile, left in zip(tiles, group, strict=True):
            height, width = tile.image.shape[:2]
            canvas[top : top + height, left : left + width] = tile.image
            write_text(canvas, tile.caption, left, top + height + 14)


def write_png(path: str | Path, image_HWC: np.ndarray) -> Path:
    """Writes uint8[H, W, 3] RGB as PNG, making its folder; returns the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    encoded = cv2.imencode(".png", np.ascontiguousarray(image_HWC[..., ::-1]))[1]
    path.write_bytes(encoded.tobytes())
    return path


def shown_rows(frame_valid_BT: np.ndarray, rows: int) -> np.ndarray:
    """Indices of up to `rows` samples, spread evenly over those that have a first and a later frame.

    Raises:
      ValueError: no sample has both.
    """
    candidates = np.flatnonzero(frame_valid_BT[:, 0] & frame_valid_BT[:, 1:].any(axis=1))
    if not candidates.size:
        raise ValueError("nothing to show: no sample of the batch has a frame 0 and a frame after it")
    count = min(rows, candidates.size)
    return candidates[np.linspace(0, candidates.size - 1, count).round().astype(int)]


def horizon_titles(time_s_BT: np.ndarray, frame_valid_BT: np.ndarray) -> tuple[str, ...]:
    """A title for each k; with its time where all samples agree (a mixture may have several)."""
    titles = []
    for k in range(1, time_s_BT.shape[1]):
        times = np.unique(np.round(time_s_BT[frame_valid_BT[:, k], k], 3))
        titles.append(f"frame {k}: +{times[0]:g} s" if times.size == 1 else f"frame {k}")
    return tuple(titles)


def row_label(batch: dict[str, np.ndarray], index: int) -> tuple[str, ...]:
    """Where a sample comes from, as lines."""
    return (f"episode {int(batch['episode'][index])}", f"step {int(batch['step'][index])}")
