"""What the wall time of a run went to, over all its restarts: the ledger `W/goodput.json`."""

from __future__ import annotations

import contextlib
import datetime
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from farsighted_jax.checkpoint.manifest import write_atomically

LEDGER = "goodput.json"

# start: until the state is there; steps: the device computes, or the host hands it work; data: it waits
# for a batch; checkpoint: it waits for a save; evaluation: what is called at logged steps.
KINDS = ("start", "compile", "steps", "data", "checkpoint", "evaluation")

# Logged steps write the ledger at most so often.
_EVERY_S = 30.0


class Ledger:
    """Charges every second to one kind, from its making to its end.

    A session is one process's time with the run. Steps that a later session had
    to do again, because they came after the last checkpoint, count as
    "repeated" instead of "steps". Time between two sessions counts nowhere.
    """

    def __init__(self, workdir: Path | None, began: float | None = None):
        """Starts a session with the kind "start".

        Args:
          workdir: the run folder; None writes nothing.
          began: `time.perf_counter()` at which the process began with the run; now by default.
        """
        self._path = workdir and workdir / LEDGER
        self._sessions = _earlier(self._path)
        now = time.perf_counter()
        self._kind, self._since, self._written = "start", now if began is None else began, now
        self._session = {
            "began": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "first_step": None,
            "last_step": None,
            "seconds": dict.fromkeys(KINDS, 0.0),
        }

    def to(self, kind: str) -> None:
        """From now on time goes to `kind`, one of `KINDS`."""
        now = time.perf_counter()
        self._session["seconds"][self._kind] += now - self._since
        self._kind, self._since = kind, now

    @contextlib.contextmanager
    def within(self, kind: str) -> Iterator[None]:
        """Time inside goes to `kind`, afterwards to what it went to before."""
        before = self._kind
        self.to(kind)
        try:
            yield
        finally:
            self.to(before)

    def done(self, step: int) -> None:
        """Says that `step` steps are done; the first call of a session says where it begins."""
        if self._session["first_step"] is None:
            self._session["first_step"] = step
        self._session["last_step"] = step

    def totals(self) -> dict[str, Any]:
        """Seconds by kind over all sessions, "repeated" among them, and "goodput": the share of steps."""
        self.to(self._kind)
        return summary([*self._sessions, self._session])

    def write(self, at_most_every_s: float = _EVERY_S) -> None:
        """Writes the ledger, unless it was written less than that time ago."""
        if self._path and time.perf_counter() - self._written >= at_most_every_s:
            self._written = time.perf_counter()
            totals = self.totals()
            rounded = {
                **self._session,
                "seconds": {kind: round(value, 3) for kind, value in self._session["seconds"].items()},
            }
            document = {**totals, "sessions": [*self._sessions, rounded]}
            write_atomically(self._path, json.dumps(document, indent=1) + "\n")

    def close(self) -> None:
        """Ends the session; one that did nothing leaves no trace."""
        if self._session["last_step"] is not None:
            self.write(0.0)


def summary(sessions: list[dict[str, Any]]) -> dict[str, Any]:
    """Totals of sessions as `Ledger` keeps them, see `Ledger.totals`."""
    seconds = {kind: sum(session["seconds"][kind] for session in sessions) for kind in KINDS}
    repeated = sum(map(_repeated_seconds, sessions, sessions[1:]))
    seconds = {**seconds, "steps": seconds["steps"] - repeated, "repeated": repeated}
    total = sum(seconds.values())
    return {
        "goodput": round(seconds["steps"] / total, 5) if total else None,
        "seconds": {kind: round(value, 3) for kind, value in seconds.items()},
    }


def _repeated_seconds(session, following):
    """Of a session's steps, the time of those that the one after it did again."""
    if session["last_step"] is None or following["first_step"] is None:
        return 0.0
    num_steps = session["last_step"] - session["first_step"]
    repeated = min(max(session["last_step"] - following["first_step"], 0), num_steps)
    return session["seconds"]["steps"] * repeated / num_steps if num_steps else 0.0


def _earlier(path):
    """Sessions of a ledger; none where it is absent or cannot be read, since no run depends on it."""
    try:
        sessions = json.loads(path.read_text(encoding="utf-8"))["sessions"] if path else []
        summary(sessions)
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return sessions
