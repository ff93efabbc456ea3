"""Images to patches and back."""

from __future__ import annotations


def grid_size(height: int, width: int, patch: int) -> tuple[int, int]:
    """Patch rows and columns (Y, X) of an image.

    Raises:
      ValueError: the patch does not divide the image; the message has the numbers.
    """
    if height % patch or width % patch:
        raise ValueError(f"image {height}x{width} is not divisible by the patch size {patch}")
    return height // patch, width // patch


def patchify(image_BHWC, patch: int):
    """float[..., H, W, C] -> float[..., N, patch * patch * C], patches row by row."""
    *lead, height, width, channels = image_BHWC.shape
    rows, columns = grid_size(height, width, patch)
    image = image_BHWC.reshape(*lead, rows, patch, columns, patch, channels)
    n = len(lead)
    image = image.transpose(*range(n), n, n + 2, n + 1, n + 3, n + 4)
    return image.reshape(*lead, rows * columns, patch * patch * channels)


def unpatchify(patches_BNF, rows: int, columns: int, patch: int):
    """Inverse of `patchify`: float[..., N, patch * patch * C] -> float[..., H, W, C]."""
    *lead, _, size = patches_BNF.shape
    channels = size // (patch * patch)
    image = patches_BNF.reshape(*lead, rows, columns, patch, patch, channels)
    n = len(lead)
    image = image.transpose(*range(n), n, n + 2, n + 1, n + 3, n + 4)
    return image.reshape(*lead, rows * patch, columns * patch, channels)
