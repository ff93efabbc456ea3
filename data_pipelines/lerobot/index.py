"""Where the episodes of a LeRobot dataset lie: tables of meta/, the same for both layouts."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_pipelines.errors import DatasetError
from data_pipelines.lerobot.info import Info


@dataclasses.dataclass(frozen=True)
class EpisodePlace:
    """Where one episode lies.

    Attributes:
      number: its number in the dataset.
      length: its steps.
      data: parquet file, relative to the dataset's folder.
      first_row: its first row there.
      films: feature -> (film, seconds at which the episode begins in it).
      tasks: instructions that the episode's table names, in order.
    """

    number: int
    length: int
    data: str
    first_row: int
    films: Mapping[str, tuple[str, float]]
    tasks: tuple[str, ...]


def read_index(info: Info) -> list[EpisodePlace]:
    """All episodes in the order of their numbers, checked against meta/info.json.

    Raises:
      DatasetError: a table is missing or malformed, or numbers or counts do not agree; names the file.
    """
    places = (_places_v2 if info.layout == 2 else _places_v3)(info)
    numbers = [place.number for place in places]
    if numbers != list(range(info.num_episodes)):
        raise DatasetError(
            f"{info.folder}/meta: the tables list {len(numbers)} episodes, expected the numbers 0 to "
            f"{info.num_episodes - 1} of total_episodes in info.json"
        )
    total = sum(place.length for place in places)
    if total != info.num_frames:
        raise DatasetError(
            f"{info.folder}/meta: the episodes have {total} frames together, expected total_frames "
            f"{info.num_frames} of info.json"
        )
    return places


def read_tasks(info: Info) -> dict[int, str]:
    """Instruction by task_index; DatasetError if the table is missing or malformed."""
    if info.layout == 2:
        path = Path(info.folder) / "meta" / "tasks.jsonl"
        rows = _lines(path)
    else:
        path = Path(info.folder) / "meta" / "tasks.parquet"
        columns = _columns(path)
        # The text is the index of a pandas table, whose column goes by several names.
        texts = next((name for name in columns if name != "task_index"), "task")
        rows = [
            {"task_index": number, "task": text}
            for number, text in zip(columns.get("task_index", ()), columns.get(texts, ()), strict=False)
        ]
    try:
        return {int(row["task_index"]): str(row["task"]) for row in rows}
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{path}: expected rows of 'task_index' and 'task': {error!r}") from error


def meta_files(info: Info) -> list[str]:
    """Files of meta/ that decide what an episode gives, relative to the folder."""
    folder = Path(info.folder)
    found = [path for path in sorted(folder.glob("meta/**/*")) if path.is_file()]
    names = [path.relative_to(folder).as_posix() for path in found]
    return [name for name in names if "stats" not in os.path.basename(name)]


def _places_v2(info):
    path, places = Path(info.folder) / "meta" / "episodes.jsonl", []
    for row in sorted(_lines(path), key=lambda row: row.get("episode_index", -1)):
        try:
            number, length, tasks = int(row["episode_index"]), int(row["length"]), row.get("tasks") or ()
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"{path}: expected rows of 'episode_index' and 'length': {error!r}") from error
        values = {"episode_chunk": number // info.chunk_size, "episode_index": number}
        films = {key: (info.film_file(video_key=key, **values), 0.0) for key in info.films()}
        places.append(
            EpisodePlace(number, length, info.data_file(**values), 0, films, tuple(map(str, tasks)))
        )
    return places


def _places_v3(info):
    folder = Path(info.folder) / "meta" / "episodes"
    files = sorted(folder.glob("chunk-*/file-*.parquet"))
    if not files:
        raise DatasetError(f"{folder}: no table of the episodes, expected chunk-*/file-*.parquet")
    rows: list[dict[str, Any]] = []
    for path in files:
        rows += _rows(_columns(path, _wanted(info)))
    places, next_row = [], {}
    try:
        for row in sorted(rows, key=lambda row: row["episode_index"]):
            chunk, file = row["data/chunk_index"], row["data/file_index"]
            data = info.data_file(chunk_index=chunk, file_index=file)
            films = {}
            for key in info.films():
                chunk, file, begin = (
                    row[f"videos/{key}/{name}"] for name in ("chunk_index", "file_index", "from_timestamp")
                )
                film = info.film_file(video_key=key, chunk_index=chunk, file_index=file)
                films[key] = film, float(begin)
            # Rows are counted file by file: what a table says of the whole dataset is no place in a file.
            first, length = next_row.get(data, 0), int(row["length"])
            next_row[data] = first + length
            tasks = tuple(map(str, row.get("tasks") or ()))
            places.append(EpisodePlace(int(row["episode_index"]), length, data, first, films, tasks))
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{folder}: the tables of the episodes lack or garble {error!r}") from error
    return places


def _wanted(info):
    names = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    for key in info.films():
        names += [f"videos/{key}/{name}" for name in ("chunk_index", "file_index", "from_timestamp")]
    return names


def _lines(path):
    try:
        with open(path, encoding="utf-8") as file:
            rows = [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: expected a JSON object a line: {error}") from error
    if not all(isinstance(row, dict) for row in rows):
        raise DatasetError(f"{path}: expected a JSON object a line")
    return rows


def _columns(path, wanted=None):
    """Columns of a parquet file as lists; of `wanted` those that it has."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        names = pq.read_schema(path).names
        table = pq.read_table(path, columns=[n for n in names if wanted is None or n in wanted])
    except (OSError, pa.ArrowException) as error:
        raise DatasetError(f"{path}: cannot be read as parquet: {error}") from error
    return table.to_pydict()


def _rows(columns):
    names = list(columns)
    return [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
