"""Writes tiny LeRobot datasets for tests, in both layouts, by pyarrow and OpenCV alone.

The layouts are written here by hand from their description, so that the reader is
tested against an independent writer.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FPS = 10.0
SIZE = (32, 48)
NAMES = ("shoulder.pos", "elbow.pos", "gripper.pos")
CAMERAS = ("observation.images.top", "observation.images.wrist")
LENGTHS = (12, 9, 15, 7, 11)
TASKS = ("pick up the cup", "put it down")


def frame(episode, step, camera=CAMERAS[0]):
    """Coarse colour fields that change from frame to frame; compression keeps those."""
    rng = np.random.default_rng([episode, step, CAMERAS.index(camera)])
    coarse = rng.integers(30, 226, (2, 3, 3), np.uint8)
    return cv2.resize(coarse, SIZE[::-1], interpolation=cv2.INTER_NEAREST)


def numbers(episode, length):
    """(actions, states) of an episode, float32[L, 3] each."""
    rng = np.random.default_rng([99, episode])
    states = np.cumsum(rng.normal(0, 0.1, (length, 3)), axis=0).astype(np.float32)
    states[:, 2] = rng.uniform(0, 1, length)
    return np.roll(states, -1, axis=0), states


def task_of(episode):
    """Its number in TASKS."""
    return episode % 2


def write_lerobot(
    root, version, name="arm", *, lengths=LENGTHS, pictures="video", edit=None, info=None, codec="mp4v"
):
    """Writes `<root>/<name>` and returns that folder.

    Args:
      root: folder of datasets.
      version: "v2.1" or "v3.0".
      name: dataset name.
      lengths: steps of each episode.
      pictures: "video" or "image", which stores encoded pictures in the tables.
      edit: function (episode, columns) that may change the columns of an episode in place.
      info: values that replace those of meta/info.json.
      codec: four letters, of the films.
    """
    folder = Path(root) / name
    (folder / "meta").mkdir(parents=True)
    columns, start = [], 0
    for episode, length in enumerate(lengths):
        columns.append(_columns(episode, length, start, pictures))
        if edit:
            edit(episode, columns[-1])
        start += length
    write = _write_v2 if version.startswith("v2") else _write_v3
    paths = write(folder, columns, lengths, pictures, codec)
    values = {
        "codebase_version": version,
        "robot_type": "arm",
        "fps": int(FPS),
        "total_episodes": len(lengths),
        "total_frames": sum(lengths),
        "total_tasks": len(TASKS),
        "chunks_size": 1000,
        "splits": {"train": f"0:{len(lengths)}"},
        "features": _features(pictures),
        **paths,
    }
    (folder / "meta" / "info.json").write_text(json.dumps(values | (info or {})))
    return folder


def _features(pictures):
    camera = {"dtype": pictures, "shape": [*SIZE, 3], "names": ["height", "width", "channels"]}
    vector = {"dtype": "float32", "shape": [3], "names": list(NAMES)}
    integer = {"dtype": "int64", "shape": [1], "names": None}
    return {
        "action": vector,
        "observation.state": vector | {"names": {"motors": list(NAMES)}},
        **dict.fromkeys(CAMERAS, camera),
        "timestamp": {"dtype": "float32", "shape": [1], "names": None},
        **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), integer),
    }


def _columns(episode, length, start, pictures):
    actions, states = numbers(episode, length)
    columns = {
        "action": list(actions),
        "observation.state": list(states),
        "timestamp": list(np.arange(length, dtype=np.float32) / np.float32(FPS)),
        "frame_index": list(range(length)),
        "episode_index": [episode] * length,
        "index": list(range(start, start + length)),
        "task_index": [task_of(episode)] * length,
    }
    if pictures == "image":
        for camera in CAMERAS:
            encoded = [cv2.imencode(".png", frame(episode, s, camera)[..., ::-1])[1] for s in range(length)]
            columns[camera] = [{"bytes": e.tobytes(), "path": f"{s}.png"} for s, e in enumerate(encoded)]
    return columns


def _table(columns):
    types = {name: pa.list_(pa.float32(), 3) for name in ("action", "observation.state")}
    types["timestamp"] = pa.float32()
    plain = {n: [v.tolist() if isinstance(v, np.ndarray) else v for v in of] for n, of in columns.items()}
    return pa.table({name: pa.array(values, types.get(name)) for name, values in plain.items()})


def _write_v2(folder, columns, lengths, pictures, codec):
    for episode, of in enumerate(columns):
        path = folder / f"data/chunk-000/episode_{episode:06d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(_table(of), path)
        if pictures == "video":
            for camera in CAMERAS:
                film = folder / f"videos/chunk-000/{camera}/episode_{episode:06d}.mp4"
                write_film(film, [frame(episode, s, camera) for s in range(lengths[episode])], codec)
    rows = [{"episode_index": i, "tasks": [TASKS[task_of(i)]], "length": n} for i, n in enumerate(lengths)]
    _write_lines(folder / "meta/episodes.jsonl", rows)
    _write_lines(folder / "meta/tasks.jsonl", [{"task_index": i, "task": t} for i, t in enumerate(TASKS)])
    return {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    }


def _write_v3(folder, columns, lengths, pictures, codec):
    """Episodes 0 to 2 in the first files, the others in the second."""
    rows, start = [], 0
    files = [[e for e in range(len(lengths)) if (e >= 3) == bool(file)] for file in (0, 1)]
    for file, episodes in enumerate(files):
        if not episodes:
            continue
        path = folder / f"data/chunk-000/file-{file:03d}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = pa.concat_tables([_table(columns[e]) for e in episodes])
        # Row groups that cut episodes in two.
        pq.write_table(tables, path, row_group_size=8)
        seconds = 0.0
        for episode in episodes:
            row = {
                "episode_index": episode,
                "tasks": [TASKS[task_of(episode)]],
                "length": lengths[episode],
                "data/chunk_index": 0,
                "data/file_index": file,
                "dataset_from_index": start,
                "dataset_to_index": start + lengths[episode],
            }
            for camera in CAMERAS if pictures == "video" else ():
                end = seconds + lengths[episode] / FPS
                row |= {f"videos/{camera}/chunk_index": 0, f"videos/{camera}/file_index": file}
                row |= {f"videos/{camera}/from_timestamp": seconds, f"videos/{camera}/to_timestamp": end}
            seconds, start = seconds + lengths[episode] / FPS, start + lengths[episode]
            rows.append(row)
        for camera in CAMERAS if pictures == "video" else ():
            frames = [frame(e, s, camera) for e in episodes for s in range(lengths[e])]
            write_film(folder / f"videos/{camera}/chunk-000/file-{file:03d}.mp4", frames, codec)
    path = folder / "meta/episodes/chunk-000/file-000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), path)
    tasks = {"task_index": list(range(len(TASKS))), "__index_level_0__": list(TASKS)}
    pq.write_table(pa.table(tasks), folder / "meta/tasks.parquet")
    return {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    }


def _write_lines(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_film(path, frames, codec="mp4v", fps=FPS):
    """An mp4 of frames uint8[H, W, 3]."""
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, frames[0].shape[1::-1])
    for image in frames:
        writer.write(image[..., ::-1])
    writer.release()
    return path
