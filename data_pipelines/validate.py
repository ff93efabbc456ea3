"""What a split holds and what is odd about it, as one JSON-able report."""

from __future__ import annotations

from collections import Counter
from typing import Any

import cv2
import numpy as np

from data_pipelines.episode import Episode
from data_pipelines.errors import NonFiniteError, RecordError
from data_pipelines.rlds import RldsSplit
from farsighted_jax.core.normalization import array_statistics
from farsighted_jax.core.spec import ActionSpec

_STILL = 0.01
_MAX_LISTED = 10


def dataset_report(split: RldsSplit, max_episodes: int | None = None) -> dict[str, Any]:
    """Reads a split and reports its content.

    Of the images, the first and the last step of each episode are decoded. A
    damaged episode is counted and its reason listed, not raised, if the split
    was opened with on_corrupt="strict".

    Args:
      split: an open split.
      max_episodes: read only so many episodes from the start.

    Returns:
      JSON-able dict: dataset, version, split, hz, episodes, steps, length
      (min, median, max), cameras, action (one entry a dimension, with unit),
      no_op_share (see `no_op`), constant_dimensions, instructions, damaged.
    """
    count = min(split.num_episodes, max_episodes or split.num_episodes)
    lengths, actions, texts = [], [], Counter()
    cameras = {camera.name: _CameraReport() for camera in split.spec.cameras}
    failures: list[RecordError] = []
    for number in range(count):
        try:
            episode = split.episode(number)
            for name, camera in cameras.items():
                camera.add(episode, name)
        except RecordError as error:
            failures.append(error)
            continue
        lengths.append(episode.num_steps)
        texts.update(_text_kinds(episode.instruction))
        if episode.actions is not None:
            actions.append(episode.actions)
    return {
        "dataset": split.name,
        "version": split.version,
        "split": split.split,
        "fingerprint": split.fingerprint,
        "hz": split.spec.hz,
        "episodes": len(lengths),
        "steps": int(sum(lengths)),
        "length": _length_summary(lengths),
        "cameras": {
            camera.name: {"rgb": camera.rgb_key, "depth": camera.depth_key, **cameras[camera.name].summary()}
            for camera in split.spec.cameras
        },
        **_action_summary(split.spec.action, actions),
        "instructions": {kind: texts[kind] for kind in ("present", "missing", "not_utf8")},
        "damaged": _failure_summary(failures),
    }


def no_op(actions_LM: np.ndarray, spec: ActionSpec, scale_M: np.ndarray) -> np.ndarray | None:
    """Which steps command no motion, bool[L].

    Every delta dimension outside the gripper is within 1 % of `scale_M`, and
    the gripper command is that of the step before.

    Args:
      actions_LM: float[L, M] of one episode.
      spec: meaning of the M dimensions.
      scale_M: float[M], the usual size of each dimension.

    Returns:
      bool[L], or None where the actions are absolute.
    """
    groups = np.array(spec.groups)
    moving = np.array(spec.delta) & (groups != "gripper")
    if not moving.any():
        return None
    still = (np.abs(actions_LM[:, moving]) <= _STILL * scale_M[moving]).all(1)
    gripper = actions_LM[:, groups == "gripper"]
    changed = np.abs(np.diff(gripper, axis=0, prepend=gripper[:1])) > _STILL
    return still & ~changed.any(1)


class _CameraReport:
    """Sizes and blankness of one camera over sampled frames."""

    def __init__(self):
        self._sizes: Counter[str] = Counter()
        self._frames = self._blank = 0

    def add(self, episode: Episode, name: str) -> None:
        for step in sorted({0, episode.num_steps - 1}) if episode.num_steps else ():
            data = np.frombuffer(episode.rgb_bytes(step, name), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
            if len(data) and image is None:
                raise episode.error(step, f"rgb of camera {name}", f"{len(data)} bytes are no image")
            self._frames += 1
            self._blank += image is None or bool((image == image[0, 0]).all())
            if image is not None:
                self._sizes[f"{image.shape[0]}x{image.shape[1]}"] += 1

    def summary(self) -> dict[str, Any]:
        return {
            "sizes": dict(self._sizes),
            "sampled_frames": self._frames,
            "blank_frames": self._blank,
            "blank": self._frames > 0 and self._blank == self._frames,
        }


def _text_kinds(instruction):
    if not instruction.strip():
        return ["missing"]
    try:
        instruction.decode()
    except UnicodeDecodeError:
        return ["present", "not_utf8"]
    return ["present"]


def _length_summary(lengths):
    if not lengths:
        return None
    return {
        "min": int(min(lengths)),
        "median": float(np.median(lengths)),
        "max": int(max(lengths)),
        "zero": sum(length == 0 for length in lengths),
        "one": sum(length == 1 for length in lengths),
    }


def _action_summary(spec, actions):
    if spec is None or not sum(len(episode) for episode in actions):
        return {"action": None, "no_op_share": None, "constant_dimensions": []}
    statistics = array_statistics(np.concatenate(actions))
    scale = np.maximum(np.abs(statistics.q01), np.abs(statistics.q99))
    still = [no_op(episode, spec, scale) for episode in actions]
    kinds = ("min", "max", "mean", "std", "q01", "q99")
    return {
        "action": {
            name: {
                "unit": unit,
                "delta": delta,
                **{kind: float(getattr(statistics, kind)[i]) for kind in kinds},
            }
            for i, (name, unit, delta) in enumerate(zip(spec.names, spec.units, spec.delta, strict=True))
        },
        "no_op_share": None if still[0] is None else float(np.concatenate(still).mean()),
        "constant_dimensions": [
            n for n, low, high in zip(spec.names, statistics.min, statistics.max, strict=True) if low == high
        ],
    }


def _failure_summary(failures):
    return {
        "episodes": len(failures),
        "not_finite": sum(isinstance(error, NonFiniteError) for error in failures),
        "reasons": [str(error) for error in failures[:_MAX_LISTED]],
    }
