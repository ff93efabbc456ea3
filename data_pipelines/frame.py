"""The one image preprocessing: decode, turn, resize, augment; shared by training and serving.

Images are resized to a square without keeping their aspect ratio: cameras of a
dataset share one ratio, cropping would lose the workspace's edges, and padding
would spend patches on nothing. Shrinking averages over areas, which is the
antialiasing; enlarging is bilinear, which adds no ringing next to edges as
cubic and Lanczos kernels do; at equal size nothing is resampled. Depth takes
the nearest neighbour, since a mean over an object's edge is a depth that
exists nowhere, and its validity mask moves with it.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import cv2
import numpy as np

from farsighted_jax.core.spec import CameraSpec

LUMA = np.array([0.299, 0.587, 0.114])
MID_GREY = 127.5


class FrameError(ValueError):
    """An image that cannot be decoded or has an unusable shape; the caller adds where it came from."""


@dataclasses.dataclass(frozen=True)
class Preprocessing:
    """Everything that decides what a model sees of an image; kept in the checkpoint.

    Attributes:
      resolution: height and width of the result in pixels.
      shift_fraction: largest shift as a share of the resolution, training only.
      brightness: largest relative change of brightness, training only.
      contrast: likewise of contrast, about mid grey.
      saturation: likewise of saturation.
    """

    resolution: int
    shift_fraction: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self):
        if self.resolution < 1:
            raise ValueError(f"Preprocessing.resolution: {self.resolution}, expected >= 1 pixel")
        for name in ("shift_fraction", "brightness", "contrast", "saturation"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"Preprocessing.{name}: {getattr(self, name)}, expected a value in [0, 1)")

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; `Preprocessing(**values)` is the inverse."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """One draw, used for every frame of a clip.

    Attributes:
      shift: pixels the content moves down and right, after resizing.
      color: float64[3, 4] affine map of (r, g, b), or None to leave colors alone.
    """

    shift: tuple[int, int] = (0, 0)
    color: np.ndarray | None = None


NO_AUGMENTATION = Augmentation()


def draw_augmentation(preprocessing: Preprocessing, rng: np.random.Generator) -> Augmentation:
    """Draws shift and color change; always the same number of draws from `rng`."""
    limit = int(round(preprocessing.shift_fraction * preprocessing.resolution))
    down, right = rng.integers(-limit, limit + 1, size=2)
    strengths = np.array([preprocessing.brightness, preprocessing.contrast, preprocessing.saturation])
    brightness, contrast, saturation = 1.0 + strengths * rng.uniform(-1.0, 1.0, size=3)
    if not strengths.any():
        return Augmentation((int(down), int(right)))
    mixing = saturation * np.eye(3) + (1.0 - saturation) * LUMA[None, :]
    color = np.concatenate(
        [contrast * brightness * mixing, np.full((3, 1), (1.0 - contrast) * MID_GREY)], axis=1
    )
    return Augmentation((int(down), int(right)), color)


def decode_rgb(encoded: bytes) -> np.ndarray:
    """Decodes a JPEG or PNG to uint8[H, W, 3] in RGB order; FrameError if it cannot be."""
    if not encoded:
        raise FrameError("the image is missing (0 bytes)")
    image_HWC = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_COLOR_RGB)
    if image_HWC is None:
        raise FrameError(f"cannot decode the image: {len(encoded)} bytes that begin with {encoded[:8]!r}")
    return image_HWC


def settled_rgb(image_HWC: np.ndarray, preprocessing: Preprocessing, rotate_180: bool = False) -> np.ndarray:
    """What no augmentation changes of `prepare_rgb`: the image turned, and shrunk if the result is smaller.

    `prepare_rgb` makes of this exactly what it makes of the image itself: a change of color and a shift
    may change places, but a change of color and enlarging may not.

    Args:
      image_HWC: uint8[H, W, 3] RGB of any size.
      preprocessing: what to do.
      rotate_180: whether the stored image is upside down.

    Returns:
      uint8[h, w, 3], contiguous.

    Raises:
      FrameError: not uint8[H, W, 3].
    """
    size = preprocessing.resolution
    if image_HWC.size > 3 * size * size:
        return prepare_rgb(image_HWC, preprocessing, rotate_180=rotate_180)
    return np.ascontiguousarray(image_HWC[::-1, ::-1] if rotate_180 else image_HWC)


def prepare_rgb(
    image_HWC: np.ndarray,
    preprocessing: Preprocessing,
    *,
    rotate_180: bool = False,
    augmentation: Augmentation = NO_AUGMENTATION,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Brings a decoded image to the model's size.

    Args:
      image_HWC: uint8[H, W, 3] RGB of any size.
      preprocessing: what to do.
      rotate_180: whether the stored image is upside down.
      augmentation: the clip's draw.
      out: uint8[size, size, 3], contiguous, to write into (size: the resolution).

    Returns:
      uint8[size, size, 3], `out` if it was given.

    Raises:
      FrameError: not uint8[H, W, 3].
    """
    if image_HWC.dtype != np.uint8 or image_HWC.ndim != 3 or image_HWC.shape[2] != 3 or not image_HWC.size:
        raise FrameError(f"expected an image uint8[H, W, 3], found {image_HWC.dtype}{list(image_HWC.shape)}")
    if rotate_180:
        image_HWC = image_HWC[::-1, ::-1]
    size = preprocessing.resolution
    if out is None:
        out = np.empty((size, size, 3), np.uint8)
    # The color map costs time per pixel, so it runs on the smaller of the two images.
    recolor_first = augmentation.color is not None and image_HWC.size <= out.size
    if recolor_first:
        image_HWC = cv2.transform(np.ascontiguousarray(image_HWC), augmentation.color)
    _resize_into(image_HWC, out, augmentation.shift)
    if augmentation.color is not None and not recolor_first:
        cv2.transform(out, augmentation.color, dst=out)
    return out


def prepare_depth(
    depth_HW: np.ndarray,
    camera: CameraSpec,
    preprocessing: Preprocessing,
    *,
    augmentation: Augmentation = NO_AUGMENTATION,
) -> tuple[np.ndarray, np.ndarray]:
    """Brings a raw depth map to the model's size, in metres.

    Args:
      depth_HW: float32[H, W] in stored units; 0, NaN and values beyond the
        camera's `depth_max_m` count as not measured.
      camera: unit, limit and orientation.
      preprocessing: what to do.
      augmentation: the clip's draw; only its shift applies.

    Returns:
      depth_m: float32[size, size] metres, 0 where not valid.
      valid: bool[size, size]; False where a shift brought in pixels from outside.

    Raises:
      FrameError: not a map of numbers [H, W].
    """
    if depth_HW.ndim != 2 or not depth_HW.size or not np.issubdtype(depth_HW.dtype, np.number):
        raise FrameError(f"expected a depth map float32[H, W], found {depth_HW.dtype}{list(depth_HW.shape)}")
    depth_HW = np.asarray(depth_HW, np.float32)
    if camera.rotate_180:
        depth_HW = depth_HW[::-1, ::-1]
    size = preprocessing.resolution
    if depth_HW.shape != (size, size):
        depth_HW = cv2.resize(
            np.ascontiguousarray(depth_HW), (size, size), interpolation=cv2.INTER_NEAREST_EXACT
        )
    target, source = _shift_slices(augmentation.shift, size)
    depth_m = np.zeros((size, size), np.float32)
    depth_m[target] = depth_HW[source] * np.float32(camera.depth_unit_m)
    valid = np.isfinite(depth_m) & (depth_m > 0) & (depth_m <= camera.depth_max_m)
    return np.where(valid, depth_m, np.float32(0)), valid


def _resize_into(image_HWC, out, shift):
    height, width = image_HWC.shape[:2]
    size = len(out)
    if (height, width) == (size, size):
        resized = image_HWC
    else:
        shrinks = height > size or width > size
        interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        target = out if shift == (0, 0) else None
        resized = cv2.resize(
            np.ascontiguousarray(image_HWC), (size, size), dst=target, interpolation=interpolation
        )
        if np.shares_memory(resized, out):
            return
    if shift == (0, 0):
        out[...] = resized
        return
    down, right = shift
    # Edge pixels are repeated: black bars would tell the model the shift.
    target, source = _shift_slices(shift, size)
    padded = cv2.copyMakeBorder(
        np.ascontiguousarray(resized[source]),
        max(down, 0), max(-down, 0), max(right, 0), max(-right, 0), cv2.BORDER_REPLICATE,
    )  # fmt: skip
    out[...] = padded


def _shift_slices(shift, size):
    """Index of the part of the target that is covered, and of the part of the source that covers it."""
    pairs = [
        (slice(max(offset, 0), size + min(offset, 0)), slice(max(-offset, 0), size - max(offset, 0)))
        for offset in shift
    ]
    return tuple(target for target, _ in pairs), tuple(source for _, source in pairs)
