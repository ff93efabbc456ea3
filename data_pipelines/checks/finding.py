"""What a check found, and what to do about it."""

from __future__ import annotations

import dataclasses

# ERROR: training is refused or learns something wrong; WARNING: look at it; NOTE: for the record.
ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is odd about a dataset.

    Attributes:
      severity: one of `SEVERITIES`.
      check: what was looked at, e.g. "gripper".
      place: dataset, split and, where there is one, episode and step.
      found: what is there and what was expected.
      mend: what to do, "" if there is nothing to do.
    """

    severity: str
    check: str
    place: str
    found: str
    mend: str = ""

    def __str__(self):
        mend = f"; to mend: {self.mend}" if self.mend else ""
        return f"{self.severity}: {self.check}: {self.place}: {self.found}{mend}"
