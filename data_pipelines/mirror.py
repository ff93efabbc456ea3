"""A local copy of an RLDS dataset as ArrayRecord shards, resumable and verified.

One shard of the copy holds the records of one shard of the source, in order. A
shard counts as done when its file and its receipt are there; both appear at
once, after what was written has been read back. `dataset_info.json` comes last,
so that a copy that is not complete is no dataset.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

from array_record.python import array_record_module

from data_pipelines import dataset_info, local_copy, records, remote
from data_pipelines.cache import is_remote, write_atomically
from data_pipelines.errors import DatasetError
from data_pipelines.resize_records import ImageResizer
from data_pipelines.stored_spec import SPEC

FORMAT = "array_record"
# Images are compressed already; reading is then twice as fast.
OPTIONS = "group_size:1,uncompressed"
RECEIPT = "mirror.json"

# Where files are that have to be on disk before they can be read, while they are being copied.
_FETCHED = ".fetched"
_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"


def mirror(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    resize: int | None = None,
    threads: int = 4,
    progress: Callable[[str], None] = lambda line: None,
) -> Path:
    """Copies every split of a dataset, or what of it is not yet copied.

    Args:
      source: the dataset's folder or that of one version, local or a URI.
      target: local folder of datasets; the copy is `<target>/<name>/<version>`.
      resize: height and width of the copied images; None copies the records byte for byte.
      threads: shards in work at once.
      progress: gets a line for every shard.

    Returns:
      The version folder of the copy.

    Raises:
      DatasetError, RecordError: a source that is damaged or cannot be read, a target that is a URI or
        holds another dataset, or a copy that does not read back.
    """
    if is_remote(target):
        raise DatasetError(f"{os.fspath(target)}: a mirror is written to a local folder")
    folder, name = _version_folder(os.fspath(source))
    info = json.loads(dataset_info.read_text(folder, "dataset_info.json"))
    splits = {split: dataset_info.split_files(folder, split) for split in dataset_info.split_names(folder)}
    features = dataset_info.read_text(folder, "features.json")
    place = Path(target) / name / os.path.basename(folder)
    if not is_remote(folder) and place.resolve() == Path(folder).resolve():
        raise DatasetError(f"{place}: is the source itself; expected another folder")
    resizer = ImageResizer(features, os.path.join(folder, "features.json"), resize) if resize else None
    copy = _Mirror(folder, place, resizer)
    copy.begin({"source": _identity(info, splits, features), "resize": resize})
    jobs = [(split, shard) for split, files in splits.items() for shard in range(len(files.names))]
    with futures.ThreadPoolExecutor(threads) as pool:
        works = [pool.submit(copy.shard, info["name"], split, splits[split], shard) for split, shard in jobs]
        try:
            for work in futures.as_completed(works):
                progress(work.result())
        finally:
            pool.shutdown(cancel_futures=True)
    copy.finish(info, splits, resizer.features_text if resizer else features)
    return place


class _Mirror:
    """A copy in the making."""

    def __init__(self, source, folder, resizer):
        self.source, self.folder, self.resizer = source, folder, resizer

    def begin(self, identity: Mapping[str, Any]) -> None:
        """Claims the folder for one source."""
        path = self.folder / RECEIPT
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found != identity:
                raise DatasetError(f"{path}: the folder holds another copy: {found}, not {dict(identity)}")
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise DatasetError(f"{self.folder}: holds something that is no mirror; expected an empty folder")
        write_atomically(path, (json.dumps(identity, indent=2) + "\n").encode())

    def shard(self, name: str, split: str, files: dataset_info.SplitFiles, shard: int) -> str:
        """Copies one shard unless that is done, and says so."""
        target = self.folder / _file_name(name, split, shard, len(files.names))
        receipt = self._receipt(target)
        if receipt is not None:
            return f"{target.name}: there already, {receipt['records']} episodes"
        part = target.with_name(f".{target.name}.part")
        count, size, written = 0, 0, hashlib.sha256()
        writer = array_record_module.ArrayRecordWriter(os.fspath(part), OPTIONS)
        try:
            for record in self._records(files, shard):
                writer.write(record)
                count, size = count + 1, size + len(record)
                _add(written, record)
        finally:
            writer.close()
        if _read_back(part, count) != written.hexdigest():
            raise DatasetError(f"{part}: what was read back is not what was written: the disk is at fault")
        receipt = {"records": count, "bytes": size, "sha256": written.hexdigest(), **_stat(part)}
        os.replace(part, target)
        write_atomically(_beside(target), (json.dumps(receipt) + "\n").encode())
        return f"{target.name}: {count} episodes, {size / 2**20:.1f} MB"

    def finish(self, info, splits, features_text) -> None:
        """Writes what makes the shards a dataset."""
        shutil.rmtree(self.folder / _FETCHED, ignore_errors=True)
        if remote.path_of(os.path.join(self.source, SPEC)).exists():
            text = dataset_info.read_text(self.source, SPEC)
            write_atomically(self.folder / SPEC, text.encode())
        write_atomically(self.folder / "features.json", features_text.encode())
        declared = []
        for entry in info["splits"]:
            files = splits[entry["name"]]
            shards = len(files.names)
            names = [_file_name(info["name"], entry["name"], shard, shards) for shard in range(shards)]
            receipts = [self._receipt(self.folder / name) for name in names]
            changed = {
                "shardLengths": [str(receipt["records"]) for receipt in receipts],
                "numBytes": str(sum(receipt["bytes"] for receipt in receipts)),
                "filepathTemplate": _TEMPLATE,
            }
            declared.append({**entry, **changed})
        info = {**info, "fileFormat": FORMAT, "splits": declared}
        write_atomically(self.folder / "dataset_info.json", (json.dumps(info, indent=2) + "\n").encode())

    def _records(self, files, shard):
        """Payloads of a shard of the source, checked, with images resized if that is wanted."""
        folder, name = self.source, files.names[shard]
        if is_remote(folder) and files.file_format == FORMAT:
            folder = local_copy.local_folder(folder, [name], self.folder / _FETCHED)
        path = os.path.join(folder, name)
        index = records.scan(path, files.file_format)
        if index.count != files.counts[shard]:
            reason = index.damage or f"expected {files.counts[shard]} as in dataset_info.json"
            raise DatasetError(f"{path}: {index.count} records can be read: {reason}")
        source = records.RecordFiles([path], [index], [index.count], files.file_format)
        for number in range(index.count):
            record = source.read(number)
            yield self.resizer.resized(record, f"{path}: record {number}") if self.resizer else record
        if folder != self.source:
            os.unlink(path)

    def _receipt(self, target):
        try:
            receipt = json.loads(_beside(target).read_text(encoding="utf-8"))
            same = {key: receipt[key] for key in ("size", "time_ns")} == _stat(target)
        except (OSError, ValueError, KeyError):
            return None
        return receipt if same else None


def _version_folder(source):
    """Version folder and name of a dataset, given either of its folders."""
    source = source.rstrip("/")
    parent, name = os.path.split(source if is_remote(source) else os.path.abspath(source))
    if remote.path_of(os.path.join(source, "dataset_info.json")).exists():
        return os.path.join(parent, name), os.path.basename(parent)
    return dataset_info.version_folder(parent, name, None), name


def _identity(info, splits, features):
    declared = {split: [files.file_format, list(files.counts)] for split, files in splits.items()}
    digest = hashlib.sha256(json.dumps([info["name"], declared, features]).encode()).hexdigest()
    return {"name": info["name"], "version": info.get("version", ""), "sha256": digest}


def _file_name(name, split, shard, shards):
    return f"{name}-{split}.{FORMAT}-{shard:05d}-of-{shards:05d}"


def _beside(target):
    return target.with_name(f".{target.name}.json")


def _stat(path):
    stat = os.stat(path)
    return {"size": stat.st_size, "time_ns": stat.st_mtime_ns}


def _read_back(path, count):
    index = records.scan(os.fspath(path), FORMAT)
    files = records.RecordFiles([os.fspath(path)], [index], [count], FORMAT)
    digest = hashlib.sha256()
    for number in range(count):
        _add(digest, files.read(number))
    return digest.hexdigest()


def _add(digest, record):
    digest.update(len(record).to_bytes(8, "little"))
    digest.update(record)
