"""Typed errors of the data pipeline; each message names what was read and what was expected."""

from __future__ import annotations


class DatasetError(ValueError):
    """A dataset cannot be used as asked."""


class RemoteError(DatasetError, OSError):
    """A file or folder behind a URI cannot be had; the message names it."""


class RecordError(DatasetError):
    """One record, or what it holds, is damaged.

    Attributes:
      path: the record file.
      record: number of the record in that file, or None for the whole file.
      reason: what is wrong, without the place.
      cause: one word for the kind of fault, by which skipped episodes are counted.
    """

    cause = "damaged"

    def __init__(self, path: str, record: int | None, reason: str, context: str = ""):
        self.path, self.record, self.reason = str(path), record, reason
        where = self.path if record is None else f"{self.path}: record {record}"
        super().__init__(f"{where}{f' ({context})' if context else ''}: {reason}")

    def within(self, context: str) -> RecordError:
        """The same error with dataset and episode added to the message."""
        return type(self)(self.path, self.record, self.reason, context)


class TokenizerError(DatasetError):
    """A tokenizer is absent, damaged or not one; the message names the file."""


class NonFiniteError(RecordError):
    """An action or a state is NaN or Inf."""

    cause = "not_finite"


class VideoFrameError(RecordError):
    """A frame of a film cannot be decoded."""

    cause = "video"
