"""Videos as action-free rows of frames: mp4 files and folders of pictures.

Frames of a compressed file are counted by decoding it once: what a container
says about its length is often wrong.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_pipelines.clips import Batch
from data_pipelines.frame import FrameError, Preprocessing, decode_rgb, prepare_rgb
from data_pipelines.video.film import Film, VideoError

PICTURES = (".png", ".jpg", ".jpeg")
FILMS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")


def open_video(path: str | os.PathLike, fps: float | None = None) -> FrameFolder | VideoFile:
    """Opens a video file, a folder of pictures or one picture as a `clips.FrameSource`.

    Args:
      path: a file that OpenCV decodes, a folder of png or jpg files, or one such
        file, which is a video of one frame.
      fps: frames a second; a folder needs it, and it replaces what a file says.

    Raises:
      VideoError: no such file, nothing in it that can be decoded, or no rate.
    """
    path = Path(path)
    if fps is not None and not 0 < fps < math.inf:
        raise VideoError(f"{path}: fps is {fps}, expected a positive number")
    if path.is_dir():
        return FrameFolder(path, pictures(path), fps)
    if not path.is_file():
        raise VideoError(f"{path}: no such file or folder, expected a video file or a folder of pictures")
    if path.suffix.lower() in PICTURES:
        return FrameFolder(path, [path], fps or 1.0)
    return VideoFile(path, fps)


def find_videos(folder: str | os.PathLike) -> list[Path]:
    """Videos directly in a folder: film files, and folders that hold pictures; the folder itself if it does.

    Raises:
      VideoError: there is none.
    """
    folder = Path(folder)
    if folder.is_file() or (folder.is_dir() and pictures(folder)):
        return [folder]
    found = []
    for path in sorted(folder.iterdir(), key=_natural) if folder.is_dir() else ():
        if path.suffix.lower() in FILMS or (path.is_dir() and pictures(path)):
            found.append(path)
    if not found:
        raise VideoError(f"{folder}: no video in it, expected files {FILMS} or folders of {PICTURES}")
    return found


class FrameFolder:
    """Picture files, in the order of their names with numbers counted as numbers."""

    dataset = ""

    def __init__(self, path: Path, files: list[Path], fps: float | None):
        """Use `open_video`."""
        self._files = files
        if not files:
            raise VideoError(f"{path}: no picture in it, expected files {PICTURES}")
        if fps is None:
            raise VideoError(f"{path}: a folder of pictures has no frame rate; give it (--fps)")
        self.name, self.hz, self.num_frames = str(path), float(fps), len(files)

    def prepared(self, frames: Sequence[int], preprocessing: Preprocessing) -> Batch:
        """See `clips.FrameSource.prepared`; VideoError names a picture that cannot be decoded."""
        size = preprocessing.resolution
        rgb = np.empty((len(frames), size, size, 3), np.uint8)
        for row, frame in enumerate(frames):
            path = self._files[frame]
            try:
                prepare_rgb(decode_rgb(path.read_bytes()), preprocessing, out=rgb[row])
            except (OSError, FrameError) as error:
                raise VideoError(f"{path}: {error}") from error
        return {"rgb": rgb}


class VideoFile:
    """A compressed file; frames of the call before are kept, so that clips may overlap."""

    dataset = ""

    def __init__(self, path: Path, fps: float | None):
        """Use `open_video`. Decodes the whole file once to find its frames."""
        self.name = str(path)
        self._film = Film(path)
        self._times = self._film.times()
        if not len(self._times):
            raise VideoError(f"{path}: no frame can be decoded, expected a video file")
        if not (fps or self._film.rate):
            raise VideoError(f"{path}: the file does not say its frame rate; give it (--fps)")
        self.hz, self.num_frames = float(fps or self._film.rate), len(self._times)
        self._kept: dict[tuple[int, int], np.ndarray] = {}

    def prepared(self, frames: Sequence[int], preprocessing: Preprocessing) -> Batch:
        """See `clips.FrameSource.prepared`; VideoError where a frame cannot be decoded any more."""
        size = preprocessing.resolution
        rows = {frame: self._kept.get((frame, size)) for frame in frames}
        for frame in (frame for frame, row in rows.items() if row is None):
            rows[frame] = prepare_rgb(timed_frame(self._film, self._times, frame), preprocessing)
        self._kept = {(frame, size): row for frame, row in rows.items()}
        return {"rgb": np.stack([rows[frame] for frame in frames])}


def timed_frame(film: Film, times_L: np.ndarray, number: int) -> np.ndarray:
    """A frame of a film whose times are known, uint8[H, W, 3]; by number where times do not increase."""
    gaps = np.diff(times_L)
    if len(gaps) and gaps.min() <= 0:
        return film.frame(number)
    return film.frame_at(times_L[number], gaps.min() / 4 if len(gaps) else 1e-3)


def pictures(folder: Path) -> list[Path]:
    """Picture files directly in a folder, numbers in their names counted as numbers."""
    files = (path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    return sorted((path for path in files if path.is_file()), key=_natural)


def _natural(path):
    """Puts frame_2 before frame_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)]
