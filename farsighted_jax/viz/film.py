"""Films: frames written as mp4 for players, or as an animation for pages."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np


class FilmError(ValueError):
    """A film cannot be written; the message names the file."""


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], fps: float) -> Path:
    """Writes uint8[H, W, 3] RGB frames of equal size, making the folder; returns the path.

    An odd side gets one more row or column, since the codec wants even ones.

    Raises:
      FilmError: no frame, or OpenCV cannot write the file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = None
    try:
        for frame_HWC in frames:
            height, width = frame_HWC.shape[:2]
            frame_HWC = np.pad(frame_HWC, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if writer is None:
                size = frame_HWC.shape[1::-1]
                writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, size)
                if not writer.isOpened():
                    raise FilmError(f"{path}: OpenCV cannot write an mp4 file here")
            writer.write(np.ascontiguousarray(frame_HWC[..., ::-1]))
    finally:
        if writer is not None:
            writer.release()
    if writer is None:
        raise FilmError(f"{path}: no frame to write")
    return path


def animation(path: str | Path, film: str | Path, scale: int = 2) -> Path:
    """Writes an mp4 as an animated WebP, which any browser shows in place of a picture; returns its path.

    The codec that OpenCV has for mp4 is one that players know and most browsers do not. A pixel becomes
    `scale` by `scale` pixels.

    Raises:
      FilmError: the film cannot be read.
    """
    from PIL import Image

    capture = cv2.VideoCapture(str(film))
    frames, fps = [], capture.get(cv2.CAP_PROP_FPS)
    while (read := capture.read())[0]:
        frame_HWC = np.ascontiguousarray(read[1][..., ::-1])
        frames.append(Image.fromarray(frame_HWC.repeat(scale, axis=0).repeat(scale, axis=1)))
    capture.release()
    if not frames:
        raise FilmError(f"{film}: no frame can be read")
    duration_ms = round(1000 / fps)
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=duration_ms, loop=0, quality=70)
    return Path(path)


def held(frames: list[np.ndarray], time_s: np.ndarray, fps: float) -> list[np.ndarray]:
    """Repeats each frame until the time of the next one; the last is held as long as the one before it.

    Args:
      frames: n >= 1 images.
      time_s: float[n] when each is due, rising.
      fps: of the film.
    """
    time_s = np.asarray(time_s, np.float64)
    last = time_s[-1] - time_s[-2] if len(time_s) > 1 else 1.0
    counts = np.maximum(np.rint(np.diff([*time_s, time_s[-1] + last]) * fps), 1).astype(int)
    return [frame for frame, count in zip(frames, counts, strict=True) for _ in range(count)]
