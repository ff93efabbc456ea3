"""Tokens of `farsighted image-features` as a field of a batch: of the stream's own frames, or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines.cache import is_remote
from data_pipelines.dataset_info import split_range
from data_pipelines.errors import RecordError
from data_pipelines.frame import Preprocessing
from data_pipelines.image_features import (
    ABOUT,
    BITS,
    COMMAND,
    ENCODER,
    FORMAT,
    HEADER,
    ImageFeatureError,
    described,
    read_about,
    shard_files,
    split_folder,
)
from data_pipelines.records import RecordFiles, ShardIndex
from data_pipelines.split import EpisodeSplit
from farsighted_jax.core.config import difference


class StoredTokens:
    """Reads the tokens of a split or a slice of it; safe to use from threads.

    Attributes:
      encoder: values of `ENCODER`.
      shape: (N, E).
    """

    def __init__(
        self,
        directory: str | os.PathLike,
        split: EpisodeSplit,
        lengths: np.ndarray,
        camera: str,
        preprocessing: Preprocessing,
    ):
        """Opens the tokens of a split; compares what they are of, and the size of every file.

        Args:
          directory: local folder that `ImageFeatureWriter` wrote to.
          split: whose tokens they must be; of a slice, the whole split's.
          lengths: int32[number of episodes] steps of each of its episodes.
          camera: role of the camera that they must be of.
          preprocessing: of the images that they must be of.

        Raises:
          ImageFeatureError: there are none, they are not complete, or they are of other frames; the message
            lists each difference and names the command.
        """
        base, _ = split_range(split.split)
        if is_remote(directory):
            raise ImageFeatureError(f"{directory}: image features are read from local folders; copy it first")
        self._folder, self._first = split_folder(directory, split.name, base), split.first_episode
        again = f"run `{COMMAND}` with this configuration, --split {base} and"
        try:
            about = read_about(self._folder / ABOUT)
            self.encoder = {key: about["encoder"][key] for key in ENCODER}
            num_shards = int(about["num_shards"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageFeatureError(
                f"{self._folder / ABOUT}: no image features of {split.name}:{base} there ({error!r}); "
                f"{again} --out {os.fspath(directory)}"
            ) from error
        self.shape = self.encoder["num_tokens"], self.encoder["width"]
        expected = described(split, camera, preprocessing, self.encoder)
        if changes := difference({key: about.get(key, "absent") for key in expected}, expected):
            raise ImageFeatureError(
                f"{self._folder / ABOUT}: tokens of something else, found -> expected: "
                f"{'; '.join(changes)}; {again} another --out"
            )
        stored, self._records = _opened(self._folder, num_shards, f"{again} the same --out")
        self._starts = np.cumsum([0, *stored])
        self._check_lengths(stored, lengths)

    def write(self, number: int, step: int, token_NE: np.ndarray) -> None:
        """Writes the tokens of one frame.

        Args:
          number: of the episode in its split or slice.
          step: of the episode.
          token_NE: uint16[N, E], written in place: the bits of bfloat16.

        Raises:
          RecordError: the record is damaged, another frame's, or empty because the frame could not be read
            when its tokens were to be made; names the file.
        """
        episode = self._first + number
        record = int(self._starts[episode]) + step
        content = self._records.read(record)
        size, place = 2 * HEADER.itemsize, self._records.place(record)
        found = tuple(np.frombuffer(content[:size], HEADER).tolist()) if len(content) >= size else None
        if found != (episode, step):
            raise RecordError(*place, f"holds (episode, step) {found}, expected {(episode, step)}")
        if len(content) == size:
            raise RecordError(*place, f"no tokens: step {step} of episode {episode} could not be read")
        if len(content) != size + token_NE.size * BITS.itemsize:
            raise RecordError(*place, f"{len(content) - size} bytes, expected tokens {list(token_NE.shape)}")
        token_NE[...] = np.frombuffer(content, BITS, offset=size).reshape(token_NE.shape)

    def _check_lengths(self, stored, lengths):
        for number, length in enumerate(lengths, start=self._first):
            found = stored[number] if number < len(stored) else 0
            if found < length:
                raise ImageFeatureError(
                    f"{self._folder}: tokens of {found} steps of episode {number}, expected {length}; "
                    f"remove the folder and run `{COMMAND}` again"
                )


def common_encoder(features: Mapping[str, StoredTokens]) -> dict[str, Any]:
    """The encoder of all datasets' tokens; ImageFeatureError naming two that another one made."""
    (first, stored), *others = features.items()
    for name, other in others:
        if changes := difference(stored.encoder, other.encoder):
            raise ImageFeatureError(
                f"image features of {first!r} and of {name!r} are of different encoders: "
                f"{'; '.join(changes)}; run `{COMMAND}` for all datasets of a mixture with one configuration"
            )
    return stored.encoder


def _opened(folder, num_shards, again) -> tuple[list[int], RecordFiles]:
    """Steps of each episode, and the records; every file is there, with as many bytes as were written."""
    paths, lengths, counts = [], [], []
    for shard in range(num_shards):
        path, receipt = shard_files(folder, shard, num_shards)
        try:
            written = json.loads(receipt.read_text(encoding="utf-8"))
            found, size, expected = written["lengths"], path.stat().st_size, written["bytes"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ImageFeatureError(
                f"{folder}: shard {shard} of {num_shards} is not done ({error!r}); {again}, which goes on"
            ) from error
        if size != expected:
            raise ImageFeatureError(f"{path}: {size} bytes, expected {expected}; {again}")
        paths.append(os.fspath(path))
        lengths += found
        counts.append(sum(found))
    none = np.zeros(0, np.int64)
    indexes = [ShardIndex(count, none, none, none.astype(np.uint32)) for count in counts]
    return lengths, RecordFiles(paths, indexes, counts, FORMAT)
