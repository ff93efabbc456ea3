"""The batch contract: what the data pipeline delivers and every model reads.

A batch is a flat dict of numpy (host) or jax (device) arrays. `FIELDS` names
each field with its dtype, axes and meaning; `check` compares a batch with it.
Masks are True where a value is real. What stands under a False is zero and
must not influence anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping

import numpy as np


class BatchError(ValueError):
    """A batch breaks the contract; the message names the field."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a batch.

    Attributes:
      dtype: numpy dtype name.
      axes: one letter of `core.dims.LETTERS` an axis; a digit is a fixed size.
      meaning: content and units.
      required: whether every batch carries it.
    """

    dtype: str
    axes: str
    meaning: str
    required: bool = False


FIELDS: dict[str, Field] = {
    "rgb": Field("uint8", "BTHW3", "primary camera, 0..255", required=True),
    "depth": Field("float32", "BTHW1", "normalised log depth, see `normalization.normalize_depth`"),
    "depth_valid": Field("bool", "BTHW1", "True where the depth was measured"),
    "sensed_depth": Field("float32", "BTHW1", "`depth` with noise and holes, for the encoder in its place"),
    "sensed_depth_valid": Field("bool", "BTHW1", "True where `sensed_depth` has a value"),
    "plain_rgb": Field("uint8", "BTHW3", "`rgb` before augmentation, for the latent action model"),
    "plain_depth": Field("float32", "BTHW1", "`depth` before augmentation"),
    "plain_depth_valid": Field("bool", "BTHW1", "True where `plain_depth` was measured"),
    "image_token": Field("uint16", "BTNE", "stored tokens of the frozen image encoder, the bits of bfloat16"),
    "history_rgb": Field(
        "uint8", "BRPHW3", "what led up to frame 0, oldest first, itself the last; the clip's camera first"
    ),
    "history_valid": Field(
        "bool", "BRP", "False before the episode's begin and where there is no such camera"
    ),
    "history_depth": Field("float32", "BRPHW1", "as `depth`, or as `sensed_depth` where the batch has that"),
    "history_depth_valid": Field("bool", "BRPHW1", "True where `history_depth` has a value"),
    "depth_center": Field("float32", "B", "mean of log depth (log m) of the sample's dataset"),
    "depth_scale": Field("float32", "B", "standard deviation of log depth (log m) of the sample's dataset"),
    "time_s": Field(
        "float32", "BT", "seconds since frame 0, at the dataset's real frame times", required=True
    ),
    "frame_valid": Field(
        "bool", "BT", "False where the clip runs past the end of its episode", required=True
    ),
    "action": Field("float32", "BJM", "normalised action chunk that starts at frame 0"),
    "action_valid": Field(
        "bool", "BJM", "False past the episode's end, in padded dimensions, where actions are hidden"
    ),
    "last_action": Field("float32", "BM", "normalised action of the step before frame 0"),
    "last_action_valid": Field(
        "bool", "BM", "False where an episode begins at frame 0, and as `action_valid`"
    ),
    "action_sum": Field(
        "float32",
        "BtM",
        "action over [frame 0, frame k) in its own units: sum of delta dimensions, change of absolute ones",
    ),
    "action_sum_valid": Field("bool", "BtM", "False where frame k is missing, and as `action_valid`"),
    "code": Field("int32", "BtZ", "stored latent codes of the transitions 0 -> k"),
    "code_valid": Field("bool", "Bt", "False where frame k is missing or was not labelled"),
    "proprio": Field("float32", "BI", "normalised robot state at frame 0"),
    "proprio_valid": Field("bool", "BI", "False in padded dimensions"),
    "text": Field("int32", "BL", "tokens of the instruction, the end token last"),
    "text_valid": Field("bool", "BL", "False in padding, all of it without an instruction"),
    "text_vector": Field("float32", "BLE", "stored vectors of the tokens of a frozen text encoder"),
    "goal_rgb": Field("uint8", "BHW3", "a later frame of the episode, in hindsight what was wanted"),
    "goal_time_s": Field("float32", "B", "seconds from frame 0 to it"),
    "goal_valid": Field("bool", "B", "False where it could not be read"),
    "dataset": Field("int32", "B", "index of the dataset in the mixture", required=True),
    "episode": Field("int32", "B", "index of the episode in its split", required=True),
    "step": Field("int32", "B", "step of frame 0 in its episode", required=True),
}


# What turns normalised depth into metres.
DEPTH_CONSTANTS = ("depth_center", "depth_scale")


def check(batch: Mapping[str, np.ndarray], *, values: bool = False) -> dict[str, int]:
    """Checks a batch against `FIELDS`.

    Args:
      batch: field name -> array.
      values: also require every floating-point value to be finite (reads the data).

    Returns:
      Size of each axis letter, e.g. {"B": 8, "T": 4, ...}.

    Raises:
      BatchError: a field is missing or unknown, or has a wrong dtype, rank,
        size or (with `values`) a NaN or Inf. The message names the field, what
        was expected and what was found.
    """
    missing = [name for name, field in FIELDS.items() if field.required and name not in batch]
    if missing:
        raise BatchError(f"batch lacks required field(s) {missing}; it has {sorted(batch)}")
    sizes: dict[str, int] = {}
    owner: dict[str, str] = {}
    for name, array in batch.items():
        if name not in FIELDS:
            raise BatchError(f"batch field {name!r} is unknown; known fields: {sorted(FIELDS)}")
        _check_field(name, FIELDS[name], array, sizes, owner)
    if "t" in sizes and sizes["t"] != sizes["T"] - 1:
        raise BatchError(
            f"batch field {owner['t']!r}: {sizes['t']} transitions, expected T - 1 = {sizes['T'] - 1}"
        )
    if values:
        _check_values(batch)
    return sizes


def zeros(names: Iterable[str], sizes: Mapping[str, int]) -> dict[str, np.ndarray]:
    """Fields of zeros, False in masks.

    Args:
      names: which; BatchError for one that is unknown.
      sizes: of each axis letter in them.
    """
    names = list(names)
    unknown = sorted(set(names) - set(FIELDS))
    if unknown:
        raise BatchError(f"batch field(s) {unknown} unknown; known fields: {sorted(FIELDS)}")
    return {
        name: np.zeros(
            [int(letter) if letter.isdigit() else sizes[letter] for letter in FIELDS[name].axes],
            FIELDS[name].dtype,
        )
        for name in names
    }


def _check_field(name, field, array, sizes, owner):
    if str(array.dtype) != field.dtype:
        raise BatchError(f"batch field {name!r}: dtype {array.dtype}, expected {field.dtype}")
    if array.ndim != len(field.axes):
        raise BatchError(f"batch field {name!r}: shape {tuple(array.shape)}, expected axes {field.axes}")
    for letter, size in zip(field.axes, array.shape, strict=True):
        expected = int(letter) if letter.isdigit() else sizes.setdefault(letter, int(size))
        owner.setdefault(letter, name)
        if size != expected:
            source = "" if letter.isdigit() else f" as in field {owner[letter]!r}"
            raise BatchError(
                f"batch field {name!r}: axis {letter} of shape {tuple(array.shape)} is {size}, "
                f"expected {expected}{source}"
            )


def _check_values(batch):
    for name, array in batch.items():
        if np.issubdtype(array.dtype, np.floating):
            finite = np.isfinite(np.asarray(array))
            if not finite.all():
                where = tuple(int(i) for i in np.argwhere(~finite)[0])
                raise BatchError(f"batch field {name!r}: value {np.asarray(array)[where]} at index {where}")


def float_rgb(rgb):
    """Images as the models read them, numpy or jax: uint8 0..255 -> float32 [0, 1]."""
    return rgb.astype(np.float32) / 255.0


def transition_valid(frame_valid_BT):
    """Which transitions 0 -> k exist, bool[B, t]: frame 0 and frame k are both real."""
    return frame_valid_BT[:, :1] & frame_valid_BT[:, 1:]
