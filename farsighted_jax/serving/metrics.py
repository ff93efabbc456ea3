"""What a server has done, in Prometheus' text format."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Callable

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
ROWS = (1, 2, 4, 8, 16, 32, 64)


class Histogram:
    """Counts of values by upper bound."""

    def __init__(self, bounds: tuple[float, ...]):
        """Takes bounds in rising order; a last one is infinite."""
        self._bounds, self._counts, self._sum = bounds, [0] * (len(bounds) + 1), 0.0

    def add(self, value: float) -> None:
        """Counts one value."""
        self._counts[bisect.bisect_left(self._bounds, value)] += 1
        self._sum += value

    def lines(self, name: str) -> list[str]:
        """Samples of a metric of that name."""
        total, lines = 0, []
        for bound, count in zip((*self._bounds, "+Inf"), self._counts, strict=True):
            total += count
            lines.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*lines, f"{name}_sum {self._sum}", f"{name}_count {total}"]


class Metrics:
    """Figures of one server; all but `batch` and `inference_seconds` belong to its event loop.

    Attributes:
      connections: clients at present.
      requests: answered, errors among them.
      errors: by their type's name.
      request_seconds: from a whole request to its answer.
      inference_seconds: of one batch.
      batch: requests of one batch.
    """

    def __init__(self, waiting: Callable[[], int] = lambda: 0):
        """Takes what says how many requests wait."""
        self.connections, self.requests, self.errors = 0, 0, Counter()
        self.request_seconds, self.inference_seconds = Histogram(SECONDS), Histogram(SECONDS)
        self.batch = Histogram(ROWS)
        self._waiting = waiting

    def text(self) -> str:
        """The page."""
        parts = {
            ("connections", "gauge", "clients at present"): [f"NAME {self.connections}"],
            ("waiting_requests", "gauge", "requests in the queue"): [f"NAME {self._waiting()}"],
            ("requests_total", "counter", "requests answered"): [f"NAME {self.requests}"],
            ("errors_total", "counter", "requests answered by an error"): [
                f'NAME{{type="{name}"}} {count}' for name, count in sorted(self.errors.items())
            ],
            ("request_seconds", "histogram", "from request to answer"): self.request_seconds.lines("NAME"),
            ("inference_seconds", "histogram", "of one batch"): self.inference_seconds.lines("NAME"),
            ("batch_requests", "histogram", "requests of one batch"): self.batch.lines("NAME"),
        }
        lines = []
        for (name, kind, about), samples in parts.items():
            name = f"farsighted_{name}"
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            lines += [sample.replace("NAME", name, 1) for sample in samples]
        return "\n".join(lines) + "\n"
