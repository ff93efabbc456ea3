"""dataset_info.json: which files hold which split, and slices such as "train[:90%]"."""

from __future__ import annotations

import dataclasses
import json
import os
import re

from data_pipelines.errors import DatasetError
from data_pipelines.remote import path_of

_TEMPLATE = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
_VERSION = re.compile(r"\d+\.\d+\.\d+")
_SPLIT = re.compile(r"([\w-]+)(?:\[(-?\d+%?)?:(-?\d+%?)?\])?")


@dataclasses.dataclass(frozen=True)
class SplitFiles:
    """The files of one split as dataset_info.json declares them.

    Attributes:
      names: file names in order.
      counts: records in each.
      file_format: "tfrecord" or "array_record".
    """

    names: tuple[str, ...]
    counts: tuple[int, ...]
    file_format: str


def version_folder(directory: str, name: str, version: str | None) -> str:
    """Folder of a dataset's version, the newest if None.

    Raises:
      DatasetError: no such folder; the message names what was looked for and what is there.
    """
    root = path_of(directory) / name
    if not root.exists():
        beside = sorted(path.name for path in path_of(directory).iterdir()) if root.parent.exists() else []
        raise DatasetError(f"no dataset folder {os.fspath(root)!r}; beside it: {beside[:20]}")
    found = sorted(
        (path.name for path in root.iterdir() if _VERSION.fullmatch(path.name)),
        key=lambda text: tuple(int(part) for part in text.split(".")),
    )
    if not found or (version is not None and version not in found):
        wanted = f"version {version!r}" if version else "a version folder such as 1.0.0"
        raise DatasetError(f"dataset {name!r}: expected {wanted} in {os.fspath(root)!r}, found {found}")
    return os.fspath(root / (version or found[-1]))


def read_text(folder: str, file_name: str) -> str:
    """Text of a file of the dataset; DatasetError if it is absent or no UTF-8."""
    path = path_of(folder) / file_name
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{os.fspath(path)}: cannot be read: {error}") from error


def split_names(folder: str) -> list[str]:
    """Names of the splits that dataset_info.json declares; DatasetError if it is malformed."""
    return list(_declared(folder)[1])


def split_files(folder: str, split: str) -> SplitFiles:
    """Files and record counts of a split, checked against the folder's content.

    Raises:
      DatasetError: malformed dataset_info.json, an unknown split (those present
        are listed), a missing or an extra file.
    """
    path = os.path.join(folder, "dataset_info.json")
    info, splits = _declared(folder)
    if split not in splits:
        raise DatasetError(
            f"{path}: no split {split!r}; it has {sorted(splits)} (a slice such as train[90%:] works too)"
        )
    try:
        counts = tuple(int(count) for count in splits[split]["shardLengths"])
        values = {"DATASET": info["name"], "SPLIT": split, "FILEFORMAT": info.get("fileFormat") or "tfrecord"}
        template = splits[split].get("filepathTemplate") or _TEMPLATE
        numbers = [f"{shard:05d}-of-{len(counts):05d}" for shard in range(len(counts))]
        names = tuple(_file_name(template, {**values, "SHARD_X_OF_Y": number}) for number in numbers)
        stem, shard, ending = _file_name(template, values).partition("{SHARD_X_OF_Y}")
        family = rf"{re.escape(stem)}\d{{5,}}-of-\d{{5,}}{re.escape(ending)}" if shard else re.escape(stem)
    except (KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        raise DatasetError(f"{path}: split {split!r} is malformed: {error!r}") from error
    if values["FILEFORMAT"] not in ("tfrecord", "array_record"):
        raise DatasetError(
            f"{path}: fileFormat {values['FILEFORMAT']!r} is neither 'tfrecord' nor 'array_record'"
        )
    if len(set(names)) != len(names) or any(os.path.basename(name) != name or "{" in name for name in names):
        raise DatasetError(
            f"{path}: split {split!r}: filepathTemplate {template!r} gives no usable file names"
        )
    _check_presence(folder, split, names, family)
    return SplitFiles(names, counts, values["FILEFORMAT"])


def split_range(text: str) -> tuple[str, tuple[str, str]]:
    """Split name and the two bounds of "name[from:to]" as texts, "" where open.

    Raises:
      DatasetError: another form; the message quotes the text.
    """
    match = _SPLIT.fullmatch(text)
    if not match:
        raise DatasetError(
            f"split {text!r} is not of the form 'name' or 'name[from:to]' with counts or percents"
        )
    return match[1], (match[2] or "", match[3] or "")


def resolve_range(text: str, bounds: tuple[str, str], num_episodes: int) -> tuple[int, int]:
    """First and end episode of a slice; percents are rounded to the nearest episode.

    Raises:
      DatasetError: out of range or empty; the message quotes the text.
    """
    first = _bound(bounds[0] or "0%", num_episodes)
    end = _bound(bounds[1] or "100%", num_episodes)
    if not 0 <= first < end <= num_episodes:
        raise DatasetError(
            f"split {text!r}: episodes {first} to {end} of {num_episodes} is empty or out of range"
        )
    return first, end


def _declared(folder):
    """Content of dataset_info.json, and its splits by name."""
    try:
        info = json.loads(read_text(folder, "dataset_info.json"))
        return info, {entry["name"]: entry for entry in info["splits"]}
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        path = os.path.join(folder, "dataset_info.json")
        raise DatasetError(f"{path}: expected an object with a list 'splits': {error!r}") from error


def _file_name(template, values):
    for field, value in values.items():
        template = template.replace(f"{{{field}}}", value)
    return template


def _bound(text, count):
    if text.endswith("%"):
        percent = int(text[:-1])
        value = (2 * abs(percent) * count + 100) // 200
        value = -value if percent < 0 else value
    else:
        value = int(text)
    return value + count if text.startswith("-") else value


def _check_presence(folder, split, names, family):
    present = {path.name for path in path_of(folder).iterdir() if re.fullmatch(family, path.name)}
    missing, extra = sorted(set(names) - present), sorted(present - set(names))
    if missing or extra:
        found = [f"missing file(s) {missing}"] * bool(missing) + [f"extra file(s) {extra}"] * bool(extra)
        raise DatasetError(
            f"{folder}: split {split!r}: dataset_info.json declares {len(names)} file(s); {'; '.join(found)}"
        )
