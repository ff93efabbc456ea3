"""Sheet of predicted depth maps in metres; holes are black."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from farsighted_jax.core.batch import transition_valid
from farsighted_jax.core.normalization import denormalize_depth
from farsighted_jax.viz import tiles
from farsighted_jax.viz.frames import error_colors

ERROR_WHITE = 0.5


def depth_colors(depth_m_HW: np.ndarray, valid_HW: np.ndarray, near_m: float, far_m: float) -> np.ndarray:
    """uint8[H, W, 3]: turbo, red near and blue far, on a logarithmic scale; black where not valid."""
    depth_m_HW = np.clip(np.where(valid_HW, np.nan_to_num(depth_m_HW), far_m), near_m, far_m)
    share = np.log(depth_m_HW / near_m) / max(np.log(far_m / near_m), 1e-6)
    # The ends of turbo are nearly black and would look like holes.
    level = np.rint(240 - 215 * share).astype(np.uint8)
    colors = cv2.applyColorMap(level, cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where(valid_HW[..., None], colors, np.uint8(0))


def depth_sheet(
    path: str | Path,
    batch: Mapping[str, np.ndarray],
    outputs: Mapping[str, np.ndarray],
    rows: int = 8,
    seen: bool = False,
) -> Path:
    """Draws predicted depth beside the measured one.

    A row shares one colour range, from its measured pixels (2 % to 98 %); it is
    written at the left. The caption of a prediction is its AbsRel; under the
    truth stands the AbsRel of copying frame 0's depth.

    Args:
      path: PNG to write.
      batch: numpy fields of `core.batch`, with depth.
      outputs: "depth" float32[B, t, H, W, 1] normalised log depth.
      rows: most samples shown, spread evenly over the batch.
      seen: whether what predicted it saw the depth of frame 0; a LAM's decoder never does.

    Returns:
      The path.

    Raises:
      ValueError: no sample has a frame to predict, or the batch has no depth.
    """
    if "depth" not in batch:
        raise ValueError(f"batch has no field 'depth' to draw; it has {sorted(batch)}")
    frame_valid_BT = np.asarray(batch["frame_valid"])
    valid_Bt = transition_valid(frame_valid_BT)
    titles = ("given", *tiles.horizon_titles(np.asarray(batch["time_s"]), frame_valid_BT))
    columns = (
        ("rgb 0", "depth 0" if seen else "depth 0 (not seen)"),
        *[("truth", "prediction", "relative error")] * valid_Bt.shape[1],
    )
    drawn = [
        _row(batch, np.asarray(outputs["depth"][index]), index, valid_Bt[index])
        for index in tiles.shown_rows(frame_valid_BT, rows).tolist()
    ]
    footer = (
        "red near, blue far, logarithmic, one range a row; black: not measured.",
        "truth: AbsRel of copying the depth of frame 0.   prediction: its AbsRel.",
        f"relative error: |d - d*| / d*; black 0, white {ERROR_WHITE:g} and more.",
    )
    return tiles.write_png(path, tiles.sheet(titles, columns, drawn, footer))


def _row(batch, predicted_tHW1, index, valid_t):
    constants = float(batch["depth_center"][index]), float(batch["depth_scale"][index])
    true_m = denormalize_depth(np.asarray(batch["depth"][index])[..., 0], *constants)
    predicted_m = denormalize_depth(np.clip(predicted_tHW1[..., 0], -20, 20), *constants)
    measured = (
        np.asarray(batch["depth_valid"][index])[..., 0]
        & np.asarray(batch["frame_valid"][index])[:, None, None]
    )
    near, far = np.percentile(true_m[measured], [2, 98]) if measured.any() else (0.1, 10.0)
    first = tiles.upscaled(np.asarray(batch["rgb"][index, 0]))
    groups = [
        (tiles.Tile(first), tiles.Tile(tiles.upscaled(depth_colors(true_m[0], measured[0], near, far))))
    ]
    for k, valid in enumerate(valid_t.tolist()):
        if not valid:
            groups.append((tiles.missing_tile(*first.shape[:2]),) * 3)
            continue
        groups.append(
            _cells(true_m[0], measured[0], true_m[k + 1], measured[k + 1], predicted_m[k], near, far)
        )
    label = (*tiles.row_label(batch, index), f"{near:.2f} m to", f"{far:.2f} m")
    return tiles.Row(label, tuple(groups))


def _cells(first_m, first_valid, true_m, valid, predicted_m, near, far):
    relative = np.where(valid, np.abs(predicted_m - true_m) / np.where(valid, true_m, 1.0), 0.0)
    copied = np.where(valid & first_valid, np.abs(first_m - true_m) / np.where(valid, true_m, 1.0), 0.0)
    everywhere = np.ones_like(valid)
    return (
        tiles.Tile(
            tiles.upscaled(depth_colors(true_m, valid, near, far)),
            f"copy {_mean(copied, valid & first_valid)}",
        ),
        tiles.Tile(tiles.upscaled(depth_colors(predicted_m, everywhere, near, far)), _mean(relative, valid)),
        tiles.Tile(tiles.upscaled(error_colors(relative / ERROR_WHITE))),
    )


def _mean(relative, valid):
    return f"{relative[valid].mean():.3f}" if valid.any() else "no depth"
