"""Codes of a dataset's windows as an RLDS side dataset: one record an episode, aligned by episode and step.

`<out>/<dataset>_codes/1.0.0/` holds ArrayRecord shards, features.json and
dataset_info.json, so that TFDS reads it too, and `labels-<split>.json`: what
was labelled by which model. A shard that is done has a receipt with its
SHA-256 below `receipts/`; dataset_info.json names a split once all its shards are done.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from tensorflow_datasets.core import features as tfds_features
from tensorflow_datasets.core.example_parser import ExampleParserNp

from data_pipelines import dataset_info, record_index, shards
from data_pipelines.cache import is_remote, write_atomically
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.features import load_features
from data_pipelines.records import RecordFiles

VERSION = "1.0.0"
MISSING = -1
_FORMAT = "array_record"
_PARSE_ERRORS = (KeyError, ValueError, TypeError, RuntimeError)


class LabelError(DatasetError):
    """A side dataset cannot be written or read as asked; the message names folder and value."""


class EpisodeCodes(NamedTuple):
    """Codes of one episode.

    Attributes:
      episode: its number in its split.
      code_LtZ: int32[L, t, Z], the codes of the window that begins at each step; -1 where not valid.
      valid_Lt: bool[L, t], False where frame k lies past the end of the episode.
    """

    episode: int
    code_LtZ: np.ndarray
    valid_Lt: np.ndarray


def codes_name(dataset: str) -> str:
    """RLDS name of the side dataset of a dataset."""
    return f"{dataset}_codes"


class CodeWriter:
    """Writes the shards of one split; safe against being killed at any time, and beside other hosts."""

    def __init__(self, out: str | os.PathLike, labels: Mapping[str, Any]):
        """Makes the folder, or joins one that holds the same labels.

        Args:
          out: folder of datasets to write to.
          labels: JSON-able; at least "source" {"dataset", "split", "num_episodes"},
            "num_shards", "keyframe_steps" (t of them) and "num_slots".

        Raises:
          LabelError: a URI, a slice of a split, or a folder with other labels; names the
            keys that differ.
        """
        source = labels["source"]
        self._labels, self._split = dict(labels), source["split"]
        if is_remote(out):
            raise LabelError(f"{out}: side datasets are written to local folders; copy it afterwards")
        if dataset_info.split_range(self._split)[1] != ("", ""):
            raise LabelError(
                f"split {self._split!r}: label whole splits, so that episode numbers stay the same"
            )
        self.name = codes_name(source["dataset"])
        self.folder = Path(out) / self.name / VERSION
        self._receipts = self.folder / "receipts"
        self._features = _features(len(labels["keyframe_steps"]), labels["num_slots"])
        self._receipts.mkdir(parents=True, exist_ok=True)
        self._check_labels(self.folder / f"labels-{self._split}.json")

    @property
    def num_shards(self) -> int:
        """Shards of the split."""
        return self._labels["num_shards"]

    def episodes(self, shard: int) -> range:
        """Episodes that a shard holds."""
        return shards.shard_episodes(self._labels["source"]["num_episodes"], self.num_shards, shard)

    def is_done(self, shard: int) -> bool:
        """Whether a shard is there, byte for byte as it was written."""
        return shards.is_done(self._path(shard), self._receipt(shard))

    def write(self, shard: int, episodes: Iterable[EpisodeCodes]) -> None:
        """Writes a shard under another name, renames it, then leaves its receipt.

        Raises:
          LabelError: not the shard's episodes, in order.
        """
        path, expected = self._path(shard), self.episodes(shard)

        def records():
            written = []
            for episode in episodes:
                yield self._record(episode)
                written.append(episode.episode)
            if written != list(expected):
                raise LabelError(f"{path}: got episodes {written}, expected {expected}")

        about = {"records": len(expected)}
        shards.write_shard(path, self._receipt(shard), records(), "group_size:1", about)

    def finish(self) -> bool:
        """Declares every split whose shards all have receipts; whether this one is among them."""
        splits = []
        for path in sorted(self.folder.glob("labels-*.json")):
            split = path.stem.removeprefix("labels-")
            num = json.loads(path.read_text(encoding="utf-8"))["num_shards"]
            receipts = [self._receipts / f"{split}-{i:05d}-of-{num:05d}.json" for i in range(num)]
            if all(receipt.is_file() for receipt in receipts):
                found = [json.loads(receipt.read_text(encoding="utf-8")) for receipt in receipts]
                splits.append(
                    {
                        "name": split,
                        "shardLengths": [str(receipt["records"]) for receipt in found],
                        "numBytes": str(sum(receipt["bytes"] for receipt in found)),
                        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
                    }
                )
        if self._split not in [entry["name"] for entry in splits]:
            return False
        self._features.save_config(os.fspath(self.folder))
        info = {"name": self.name, "version": VERSION, "fileFormat": _FORMAT, "splits": splits}
        write_atomically(self.folder / "dataset_info.json", (json.dumps(info, indent=2) + "\n").encode())
        return True

    def _check_labels(self, path):
        text = json.dumps(self._labels, indent=2, sort_keys=True) + "\n"
        if not path.exists():
            write_atomically(path, text.encode())
            return
        found, wanted = json.loads(path.read_text(encoding="utf-8")), json.loads(text)
        different = sorted(key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key))
        if different:
            changes = "; ".join(f"{key}: {found.get(key)} -> {wanted.get(key)}" for key in different)
            raise LabelError(f"{path} holds other labels ({changes}); choose another --out or remove it")

    def _record(self, codes):
        num_steps = len(codes.code_LtZ)
        steps = [
            {
                "code": codes.code_LtZ[step].astype(np.int32),
                "code_valid": codes.valid_Lt[step],
                "is_first": step == 0,
                "is_last": step == num_steps - 1,
            }
            for step in range(num_steps)
        ]
        metadata = {"episode": codes.episode, "num_steps": num_steps}
        return self._features.serialize_example({"steps": steps, "episode_metadata": metadata})

    def _path(self, shard):
        return self.folder / f"{self.name}-{self._split}.{_FORMAT}-{shard:05d}-of-{self.num_shards:05d}"

    def _receipt(self, shard):
        return self._receipts / f"{self._split}-{shard:05d}-of-{self.num_shards:05d}.json"


class CodeReader:
    """Reads the codes of a split; safe to use from threads.

    Attributes:
      labels: what was labelled by which model, see `CodeWriter`.
      num_episodes: E.
    """

    def __init__(self, directory: str | os.PathLike, dataset: str, split: str):
        """Opens the side dataset of `dataset` in a folder of datasets.

        Raises:
          DatasetError: it is not there, or the split is not finished.
        """
        name = codes_name(dataset)
        folder = dataset_info.version_folder(os.fspath(directory), name, VERSION)
        files = dataset_info.split_files(folder, split)
        self.labels = json.loads(dataset_info.read_text(folder, f"labels-{split}.json"))
        features = load_features(dataset_info.read_text(folder, "features.json"), f"{folder}/features.json")
        self._parser = ExampleParserNp(dict(features.serialized))
        indexes, _ = record_index.load_or_build(folder, split, files.names, _FORMAT)
        paths = [os.path.join(folder, shard) for shard in files.names]
        self._records = RecordFiles(paths, indexes, files.counts, _FORMAT)
        self.num_episodes = len(self._records)

    def episode(self, number: int) -> EpisodeCodes:
        """Codes of an episode; RecordError if its record is damaged or another episode's."""
        record = self._records.read(number)
        path, place = self._records.place(number)
        try:
            stored = self._parser.parse_example(record)
            codes = EpisodeCodes(
                int(stored["episode_metadata/episode"]), stored["steps/code"], stored["steps/code_valid"]
            )
        except _PARSE_ERRORS as error:
            raise RecordError(path, place, f"no codes: {type(error).__name__}: {error}") from error
        if codes.episode != number:
            raise RecordError(path, place, f"holds episode {codes.episode}, expected {number}")
        return codes


def _features(t, num_slots):
    flag = tfds_features.Scalar(dtype=np.bool_)
    step = {
        "code": tfds_features.Tensor(shape=(t, num_slots), dtype=np.int32),
        "code_valid": tfds_features.Tensor(shape=(t,), dtype=np.bool_),
        "is_first": flag,
        "is_last": flag,
    }
    number = tfds_features.Scalar(dtype=np.int32)
    metadata = tfds_features.FeaturesDict({"episode": number, "num_steps": number})
    return tfds_features.FeaturesDict({"steps": tfds_features.Dataset(step), "episode_metadata": metadata})
