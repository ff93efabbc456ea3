"""Tokens of a frozen image encoder, computed once for every frame of a split: written and read.

`<out>/<dataset>_image_features/<split>/` holds `image_features.json`, which says
of which frames the tokens are and what made them, and ArrayRecord shards of
whole episodes with a receipt each. A record is one frame, so that a window reads
its own frames alone: episode and step, int32, then the bits of bfloat16[N, E],
little endian. Bfloat16 is what the encoder computes in where `model.dtype` says
so, which makes the stored tokens the very ones. They are not compressed: their
lower bits are noise.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from data_pipelines import shards
from data_pipelines.cache import is_remote, write_atomically
from data_pipelines.dataset_info import split_range
from data_pipelines.errors import DatasetError
from data_pipelines.frame import Preprocessing
from data_pipelines.split import EpisodeSplit
from farsighted_jax.core.config import difference

ABOUT = "image_features.json"
COMMAND = "farsighted image-features"

# What tokens depend on: encoder (its name), digest (of its weights in that dtype), dtype (of the
# computation), num_tokens (N), width (E).
ENCODER = ("encoder", "digest", "dtype", "num_tokens", "width")

# Raised when records, or what is done to an image before the encoder, change.
LAYOUT = 1
# About so many bytes a shard: what a killed process loses, and what hosts share.
SHARD_BYTES = 2**30

FORMAT = "array_record"
_OPTIONS = "group_size:1,uncompressed"
# Of episode and step, and of a number of a token.
HEADER, BITS = np.dtype("<i4"), np.dtype("<u2")


class ImageFeatureError(DatasetError):
    """A folder of tokens cannot be written or read as asked; the message names folder, key and value."""


class FrameTokens(NamedTuple):
    """One frame.

    Attributes:
      episode: its number in its split.
      step: its step of the episode.
      token_NE: uint16[N, E], the bits of bfloat16; None where the frame cannot be read.
    """

    episode: int
    step: int
    token_NE: np.ndarray | None


def described(
    split: EpisodeSplit, camera: str, preprocessing: Preprocessing, encoder: Mapping[str, Any]
) -> dict[str, Any]:
    """What a folder says about itself; two that differ in it never mix.

    Args:
      split: the whole split or a slice of it.
      camera: role of the camera.
      preprocessing: of every image.
      encoder: values of `ENCODER`.
    """
    source = {"dataset": split.name, "split": split_range(split.split)[0], "camera": camera}
    source["fingerprint"] = split.whole_fingerprint
    made = {"source": source, "preprocessing": preprocessing.to_dict(), "encoder": dict(encoder)}
    return {"layout": LAYOUT, **made}


def split_folder(directory: str | os.PathLike, dataset: str, split: str) -> Path:
    """Where the tokens of a whole split lie."""
    return Path(directory) / f"{dataset}_image_features" / split


def shard_files(folder: Path, shard: int, num_shards: int) -> tuple[Path, Path]:
    """A shard and its receipt."""
    name = f"tokens-{shard:05d}-of-{num_shards:05d}"
    return folder / f"{name}.{FORMAT}", folder / f"{name}.json"


def read_about(path: Path) -> dict[str, Any]:
    """A document of `described`; OSError, ValueError or TypeError where there is none."""
    return dict(json.loads(path.read_text(encoding="utf-8")))


class ImageFeatureWriter:
    """Writes the shards of one split; safe against being killed at any time, and beside other hosts.

    Attributes:
      folder: of the split.
      num_shards: files of the split.
    """

    def __init__(
        self, out: str | os.PathLike, split: EpisodeSplit, lengths: np.ndarray, about: Mapping[str, Any]
    ):
        """Makes the folder, or joins one that holds the same tokens.

        Args:
          out: local folder.
          split: a whole split.
          lengths: int32[number of episodes] steps of each.
          about: see `described`.

        Raises:
          ImageFeatureError: a URI, a slice of a split, or a folder with other tokens; names the keys that
            differ.
        """
        if is_remote(out):
            raise ImageFeatureError(f"{out}: image features are written to local folders; copy it afterwards")
        if split_range(split.split)[1] != ("", ""):
            raise ImageFeatureError(
                f"split {split.split!r} is a slice; expected a whole one, so that episodes keep their numbers"
            )
        encoder, self._lengths = about["encoder"], np.asarray(lengths)
        self._shape = encoder["num_tokens"], encoder["width"]
        size = int(self._lengths.sum()) * int(np.prod(self._shape)) * BITS.itemsize
        self.num_shards = max(1, min(len(lengths), -(-size // SHARD_BYTES)))
        self.folder = split_folder(out, split.name, split.split)
        self._claim({**about, "num_shards": self.num_shards})

    def episodes(self, shard: int) -> range:
        """Episodes that a shard holds."""
        return shards.shard_episodes(len(self._lengths), self.num_shards, shard)

    def is_done(self, shard: int) -> bool:
        """Whether a shard is there, byte for byte as it was written."""
        return shards.is_done(*shard_files(self.folder, shard, self.num_shards))

    def is_complete(self) -> bool:
        """Whether every shard has its receipt."""
        receipts = (shard_files(self.folder, shard, self.num_shards)[1] for shard in range(self.num_shards))
        return all(receipt.is_file() for receipt in receipts)

    def write(self, shard: int, frames: Iterable[FrameTokens]) -> None:
        """Writes a shard under another name, renames it, then leaves its receipt.

        Raises:
          ImageFeatureError: not every frame of the shard's episodes, in order, or tokens of another shape.
        """
        path, receipt = shard_files(self.folder, shard, self.num_shards)
        lengths = {number: int(self._lengths[number]) for number in self.episodes(shard)}
        expected = ((number, step) for number, length in lengths.items() for step in range(length))

        def records():
            for frame in frames:
                _check_next(path, frame, next(expected, None), self._shape)
                header = np.array(frame[:2], HEADER).tobytes()
                yield header + (b"" if frame.token_NE is None else frame.token_NE.astype(BITS).tobytes())
            if (missing := next(expected, None)) is not None:
                raise ImageFeatureError(f"{path}: got no frame for (episode, step) {missing}")

        shards.write_shard(path, receipt, records(), _OPTIONS, {"lengths": list(lengths.values())})

    def _claim(self, about):
        path, text = self.folder / ABOUT, json.dumps(about, indent=2, sort_keys=True) + "\n"
        if not path.exists():
            write_atomically(path, text.encode())
            return
        if changes := difference(read_about(path), json.loads(text)):
            raise ImageFeatureError(
                f"{path}: tokens of something else, found -> expected: {'; '.join(changes)}; choose another "
                "--out or remove it"
            )


def _check_next(path, frame, expected, shape):
    if (frame.episode, frame.step) != expected:
        raise ImageFeatureError(f"{path}: got (episode, step) {frame[:2]}, expected {expected}")
    if frame.token_NE is not None and (frame.token_NE.shape, frame.token_NE.dtype) != (shape, np.uint16):
        found = f"{frame.token_NE.dtype}{list(frame.token_NE.shape)}"
        raise ImageFeatureError(f"{path}: got tokens {found}, expected uint16{list(shape)}")
