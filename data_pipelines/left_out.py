"""What of each dataset does not reach a batch, and why."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from data_pipelines.sampler import ShuffledEpochs
from data_pipelines.source import Source


class LeftOut:
    """Counts per dataset: episodes, known when they are opened; frames, as they are read. Thread-safe."""

    def __init__(
        self,
        sources: Mapping[str, Source],
        windows: Mapping[str, np.ndarray],
        epochs: Mapping[str, ShuffledEpochs],
        statistics: Mapping[str, Mapping[str, Any]],
    ):
        """Takes, by dataset, the source, int64[E] windows of its episodes, their order and statistics."""
        self._sources, self._windows, self._epochs, self._statistics = sources, windows, epochs, statistics
        self._unread, self._lock = {name: Counter() for name in sources}, threading.Lock()

    def add_unread(self, dataset: str, unread: Mapping[str, int]) -> None:
        """Counts frames that could not be read: cause -> frames."""
        with self._lock:
            self._unread[dataset] += Counter(unread)

    def counts(self) -> dict[str, Any]:
        """Everything, for people; dataset -> counts, and "unread_frames" of all."""
        unread = self._unread_now()
        counts: dict[str, Any] = {"unread_frames": sum(sum(found.values()) for found in unread.values())}
        for name, source in self._sources.items():
            lengths, windows, statistics = source.lengths, self._windows[name], self._statistics[name]
            counts[name] = {
                "episodes": len(lengths),
                "windows": int(windows.sum()),
                "episodes_skipped": statistics["num_skipped"],
                "episodes_skipped_for": statistics["skipped"],
                "episodes_empty": int((lengths == 0).sum()) - statistics["num_skipped"],
                "episodes_too_short": int(((lengths > 0) & (windows == 0)).sum()),
                "episodes_left_out_of_groups": self._epochs[name].num_left_out,
                "unread_frames_for": unread[name],
            }
            if not source.seen.all():
                counts[name]["episodes_with_actions"] = int(source.seen.sum())
        return counts

    def metrics(self) -> dict[str, float]:
        """What was damaged, for logs: the two sums always, and a count for each dataset and cause."""
        unread = self._unread_now()
        metrics = {"data/episodes_skipped": 0.0, "data/unread_frames": 0.0}
        for name in self._sources:
            for kind, causes in (
                ("episodes_skipped", self._statistics[name]["skipped"]),
                ("unread_frames", unread[name]),
            ):
                for cause, count in causes.items():
                    metrics[f"data/{kind}/{name}/{cause}"] = float(count)
                    metrics[f"data/{kind}"] += count
        return metrics

    def _unread_now(self):
        with self._lock:
            return {name: dict(found) for name, found in self._unread.items()}
