"""Sheet of predicted frames: frame 0, then truth, prediction and error for every k."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from farsighted_jax.core.batch import transition_valid
from farsighted_jax.viz import tiles

ERROR_WHITE = 0.5


def prediction_sheet(
    path: str | Path, batch: Mapping[str, np.ndarray], outputs: Mapping[str, np.ndarray], rows: int = 8
) -> Path:
    """Draws predicted frames beside the true ones.

    Each cell's caption tells its number: the PSNR of the prediction, and under
    the truth the PSNR that copying frame 0 would have had. Frames past the end
    of an episode are hatched.

    Args:
      path: PNG to write.
      batch: numpy fields of `core.batch`.
      outputs: "rgb" float32[B, t, H, W, 3] in [0, 1].
      rows: most samples shown, spread evenly over the batch.

    Returns:
      The path.

    Raises:
      ValueError: no sample has a frame to predict.
    """
    frame_valid_BT = np.asarray(batch["frame_valid"])
    valid_Bt = transition_valid(frame_valid_BT)
    titles = ("given", *tiles.horizon_titles(np.asarray(batch["time_s"]), frame_valid_BT))
    columns = (("frame 0",), *[("truth", "prediction", "error")] * valid_Bt.shape[1])
    drawn = []
    for index in tiles.shown_rows(frame_valid_BT, rows).tolist():
        clip = np.asarray(batch["rgb"][index])
        groups = [(tiles.Tile(tiles.upscaled(clip[0])),)]
        for k in range(valid_Bt.shape[1]):
            predicted = np.asarray(outputs["rgb"][index, k])
            groups.append(_cells(clip[0], clip[k + 1], predicted, bool(valid_Bt[index, k])))
        drawn.append(tiles.Row(tiles.row_label(batch, index), tuple(groups)))
    footer = (
        "truth: PSNR of copying frame 0.   prediction: its PSNR.",
        f"error: absolute difference, mean over channels; black 0, white {ERROR_WHITE:g} and more.",
    )
    return tiles.write_png(path, tiles.sheet(titles, columns, drawn, footer))


def _cells(first, true, predicted, valid):
    if not valid:
        height, width = tiles.upscaled(first).shape[:2]
        return (tiles.missing_tile(height, width),) * 3
    shown = np.clip(np.nan_to_num(predicted), 0, 1)
    error_HW = np.abs(shown - true / 255.0).mean(axis=-1)
    return (
        tiles.Tile(tiles.upscaled(true), f"copy {_psnr(first / 255.0, true / 255.0)}"),
        tiles.Tile(tiles.upscaled(np.rint(shown * 255).astype(np.uint8)), _psnr(predicted, true / 255.0)),
        tiles.Tile(tiles.upscaled(error_colors(error_HW / ERROR_WHITE)), f"mean {error_HW.mean():.3f}"),
    )


def error_colors(error_HW: np.ndarray) -> np.ndarray:
    """uint8[H, W, 3] from black (0) over red to nearly white (1 and more)."""
    level = np.rint(np.clip(error_HW, 0, 1) * 255).astype(np.uint8)
    return cv2.applyColorMap(level, cv2.COLORMAP_INFERNO)[..., ::-1]


def _psnr(first, second):
    mean_square = float(np.mean(np.square(first - second)))
    return "identical" if mean_square == 0 else f"{-10 * np.log10(mean_square):.1f} dB"
