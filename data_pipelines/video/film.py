"""Single frames of a compressed film by their time, without decoding all that comes before.

A container may say where a frame is and be wrong, and seeking may land elsewhere.
What counts here is therefore the time of the frame that was decoded: the frame
is taken if that is the time asked for, and else looked for from the beginning.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Iterator

import cv2
import numpy as np

from data_pipelines.errors import DatasetError

# Frames this near are reached by decoding on rather than by seeking.
AHEAD_S = 1.0
# What OpenCV opens but does not decode without special hardware.
NEEDS_AV = {"av01": "AV1"}
MAX_IDLE = 16


class VideoError(DatasetError):
    """A video that cannot be used; the message names the file and what is needed."""


class Film:
    """An open film; for one thread at a time.

    Attributes:
      path: the file.
      rate: frames a second as the file says, 0 if it does not.
    """

    def __init__(self, path: str | os.PathLike):
        """Opens a film; VideoError if it is none, or its codec needs a package that is not installed."""
        self.path = os.fspath(path)
        self._decoder = _opened(self.path)
        self.rate = self._decoder.rate
        self._time: float | None = None

    def frame_at(self, seconds: float, tolerance: float) -> np.ndarray:
        """The frame shown at a time, uint8[H, W, 3] RGB.

        Args:
          seconds: since the beginning of the film.
          tolerance: largest distance of the frame's own time, in seconds.

        Raises:
          VideoError: there is no frame at that time, or it cannot be decoded.
        """
        reached = self._time
        if reached is None or seconds < reached - tolerance or seconds > reached + AHEAD_S:
            self._decoder.seek(seconds)
            self._time = None
        if not self._arrives(seconds, tolerance):
            # The seek went past it: decoding from the beginning passes every frame.
            self._decoder, self._time = _opened(self.path), None
            if not self._arrives(seconds, tolerance):
                last = "none" if self._time is None else f"{self._time:.4f} s"
                raise VideoError(
                    f"{self.path}: no frame at {seconds:.4f} s (+- {tolerance:.4f}); the last was at {last}"
                )
        image_HWC = self._decoder.image()
        if image_HWC is None:
            raise VideoError(f"{self.path}: the frame at {seconds:.4f} s cannot be decoded")
        return image_HWC

    def times(self) -> np.ndarray:
        """Times of all frames in seconds, float64[L], by decoding the whole film."""
        self._decoder, self._time = _opened(self.path), None
        found = []
        while (time := self._decoder.grab()) is not None:
            found.append(time)
        self._decoder = _opened(self.path)
        return np.array(found)

    def frame(self, number: int) -> np.ndarray:
        """The frame with a number, by decoding all before it, uint8[H, W, 3]; VideoError if there is none."""
        self._decoder, self._time = _opened(self.path), None
        for _ in range(number + 1):
            if self._decoder.grab() is None:
                raise VideoError(f"{self.path}: frame {number} cannot be decoded")
        return self._decoder.image()

    def _arrives(self, seconds, tolerance):
        while self._time is None or self._time < seconds - tolerance:
            time = self._decoder.grab()
            if time is None:
                return False
            self._time = time
        return self._time <= seconds + tolerance


class FilmPool:
    """Open films that threads share, of which at most `max_idle` are kept open while nobody uses them."""

    def __init__(self, max_idle: int = MAX_IDLE):
        """Starts empty."""
        self._max_idle, self._lock = max_idle, threading.Lock()
        self._idle: OrderedDict[int, Film] = OrderedDict()

    @contextlib.contextmanager
    def film(self, path: str) -> Iterator[Film]:
        """A film for the caller alone, the one of the last use if it is idle."""
        with self._lock:
            place = next((key for key in reversed(self._idle) if self._idle[key].path == path), None)
            film = None if place is None else self._idle.pop(place)
        film = film or Film(path)
        yield film
        # One that failed is not kept: what state it is in is not known.
        with self._lock:
            self._idle[id(film)] = film
            while len(self._idle) > self._max_idle:
                self._idle.popitem(last=False)


def _opened(path):
    if not os.path.isfile(path):
        raise VideoError(f"{path}: no such file, expected a video file")
    # Readers are threads already.
    capture = cv2.VideoCapture(path, cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise VideoError(f"{path}: cannot be opened as a video (unknown format, or damaged)")
    codec = int(capture.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little").decode("latin-1").lower()
    if codec not in NEEDS_AV:
        return _OpenCv(capture)
    capture.release()
    try:
        return _Av(path)
    except ModuleNotFoundError as error:
        raise VideoError(
            f"{path}: {NEEDS_AV[codec]} video, which OpenCV does not decode; install PyAV (pip install -e "
            "'.[lerobot]'), or encode it anew, e.g. `ffmpeg -i IN -c:v libx264 OUT`"
        ) from error


class _OpenCv:
    """Decodes with OpenCV."""

    def __init__(self, capture):
        self._capture = capture
        rate = capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate < math.inf else 0.0

    def seek(self, seconds):
        self._capture.set(cv2.CAP_PROP_POS_FRAMES, max(0, round(seconds * self.rate)))

    def grab(self):
        """Goes to the next frame and returns its time; None at the end."""
        return self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 if self._capture.grab() else None

    def image(self):
        done, image_HWC = self._capture.retrieve()
        return cv2.cvtColor(image_HWC, cv2.COLOR_BGR2RGB) if done else None


class _Av:
    """Decodes with PyAV."""

    def __init__(self, path):
        import av

        self._errors = av.FFmpegError
        self._container = av.open(path)
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = "SLICE"
        self._begin = float((self._stream.start_time or 0) * self._stream.time_base)
        self.rate = float(self._stream.average_rate or 0)
        self._frames, self._frame = self._container.decode(self._stream), None

    def seek(self, seconds):
        at = int((seconds + self._begin) / self._stream.time_base)
        self._container.seek(max(0, at), stream=self._stream)
        self._frames = self._container.decode(self._stream)

    def grab(self):
        try:
            self._frame = next(self._frames, None)
        except self._errors:
            self._frame = None
        return None if self._frame is None else float(self._frame.time) - self._begin

    def image(self):
        return self._frame.to_ndarray(format="rgb24")
