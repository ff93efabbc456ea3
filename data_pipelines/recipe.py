"""How actions, state and instruction are made of an episode's features, where they are not just stored.

A recipe is data: it can be compared, printed and hashed, and what it does is in `standardise.FORMS`.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from data_pipelines.standardise import FORMS, LAYOUT, text_of_codepoints


@dataclasses.dataclass(frozen=True)
class Part:
    """Some columns of one step feature, and what is made of them.

    Attributes:
      key: step feature, "/"-separated.
      width: columns that it must have; 0 for one number a step.
      at: the first column taken.
      count: columns taken.
      form: one of `standardise.FORMS`.
      ends: stored values of a gripper that is open, and closed; else ().
      scale: what the columns are multiplied by first, to get to our units.
    """

    key: str
    width: int
    at: int
    count: int
    form: str = "stored"
    ends: tuple[float, ...] = ()
    scale: float = 1.0

    def __post_init__(self):
        takes = FORMS[self.form].widths[0]
        if self.at + self.count > max(self.width, 1) or (takes and takes != self.count):
            raise ValueError(
                f"columns {self.at}..{self.at + self.count - 1} of {self.key!r}: form {self.form!r} takes "
                f"{takes or 'any'} and the feature has {max(self.width, 1)}"
            )

    @property
    def made(self) -> int:
        """Columns that come out."""
        return FORMS[self.form].widths[1] or self.count

    def of(self, rows: Mapping[str, np.ndarray]) -> np.ndarray:
        """The columns of an episode, float64[L, made], or one row less if the form looks ahead."""
        values_L = np.asarray(rows[self.key], np.float64)
        values_Ln = values_L.reshape(len(values_L), max(self.width, 1))[:, self.at : self.at + self.count]
        return FORMS[self.form].function(values_Ln * self.scale, self.ends)


class Standard(NamedTuple):
    """An episode's numbers and text.

    Attributes:
      steps: which of the stored steps the episode has.
      action: float32[L, M], or None.
      state: float32[L, I], or None.
      instructions: of the first step, the usual one first, () without any.
    """

    steps: range
    action: np.ndarray | None
    state: np.ndarray | None
    instructions: tuple[bytes, ...]


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What an episode is made of.

    Attributes:
      action: parts of the action, side by side; () without.
      state: parts of the proprioception.
      language: step features of the instruction; the first that is not empty counts, others say the same.
      codepoints: whether the instruction is stored as numbers of characters.
      skip_first: steps left out at the episode's begin.
    """

    action: tuple[Part, ...] = ()
    state: tuple[Part, ...] = ()
    language: tuple[str, ...] = ()
    codepoints: bool = False
    skip_first: int = 0

    @property
    def parts(self) -> tuple[Part, ...]:
        """All parts."""
        return self.action + self.state

    @property
    def keys(self) -> tuple[str, ...]:
        """Step features that are read."""
        return tuple(dict.fromkeys([*(part.key for part in self.parts), *self.language]))

    @property
    def identity(self) -> str:
        """What decides the numbers, as JSON."""
        return json.dumps([LAYOUT, dataclasses.asdict(self)], sort_keys=True)

    @property
    def plain(self) -> bool:
        """Whether action, state and instruction are each just one stored feature."""
        whole = all(_whole(parts) for parts in (self.action, self.state))
        return whole and len(self.language) < 2 and not self.codepoints and not self.skip_first

    def standard(self, rows: Mapping[str, np.ndarray], num_steps: int) -> Standard:
        """Actions, state and instruction of an episode.

        Args:
          rows: step feature -> one row a stored step, texts as bytes.
          num_steps: stored steps.
        """
        ahead = any(FORMS[part.form].ahead for part in self.action)
        end = max(num_steps - ahead, 0)
        steps = range(min(self.skip_first, end), end)
        return Standard(
            steps=steps,
            action=_side_by_side(self.action, rows, steps),
            state=_side_by_side(self.state, rows, steps),
            instructions=self._instructions(rows),
        )

    def _instructions(self, rows):
        texts = (rows[key][0] for key in self.language if len(rows[key]))
        if self.codepoints:
            texts = map(text_of_codepoints, texts)
        return tuple(bytes(text) for text in texts if len(text))


def _side_by_side(parts, rows, steps):
    if not parts:
        return None
    columns = [part.of(rows)[steps.start : steps.stop] for part in parts]
    return np.concatenate(columns, axis=-1).astype(np.float32)


def _whole(parts):
    """Whether parts are all columns of one feature, in order, as they are stored."""
    if not parts:
        return True
    places = [(part.at, part.at + part.count) for part in parts]
    joined = [0, *(end for _, end in places)]
    return (
        len({part.key for part in parts}) == 1
        and all(part.form == "stored" and part.scale == 1 for part in parts)
        and [begin for begin, _ in places] == joined[:-1]
        and joined[-1] == parts[0].width
    )
