"""Weighted mixtures of datasets as a pure function of the position in the stream.

A mixture is a schedule: from which unit of the stream on which weights hold.
Which dataset unit i comes from, and how many units each dataset has given
before it, follow from i in closed form. A new segment starts at the counts of
those before it, so a change of weights neither loses nor repeats anything.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterable, Mapping, Sequence

from data_pipelines.errors import DatasetError
from data_pipelines.oxe.mixtures import MIXTURES, Mixture
from data_pipelines.remote import path_of

# Weights become whole numbers out of this many, so that counts are exact.
RESOLUTION = 1_000_000


class MixtureError(ValueError):
    """A mixture that cannot be read; the message names the part."""


def parse_mixture(
    text: str, directory: str | None = None, num_steps: Mapping[str, int] | None = None
) -> dict[str, float]:
    """Reads a mixture: a name of `MIXTURES`, one dataset, or "a:0.7,b?:0.3", of which b may be absent.

    Args:
      text: the mixture.
      directory: folder of datasets, in which the optional ones are looked for; None: all count as there.
      num_steps: dataset -> its steps, by which weights that count for each step are multiplied.

    Returns:
      Dataset name -> weight > 0; the weights sum to 1.

    Raises:
      MixtureError: empty, a repeated dataset, or a weight that is no positive number.
    """
    named = MIXTURES.get(text) or _written(text)
    weights = dict(named.weights)
    if directory is not None:
        for name in absent(directory, sorted(named.optional & set(weights))):
            warnings.warn(
                f"mixture {text!r}: optional dataset {name!r} is not in {directory!r}", stacklevel=2
            )
            del weights[name]
    if named.per_step and num_steps is not None:
        weights = {name: weight * num_steps[name] for name, weight in weights.items()}
    return _shares(text, list(weights.items()))


def absent(directory: str, names: Iterable[str]) -> list[str]:
    """Datasets without a folder in a directory, local or remote."""
    return [name for name in names if not (path_of(directory) / name).exists()]


def check_present(text: str, directory: str, names: Sequence[str]) -> None:
    """DatasetError naming the datasets of a mixture of several that are absent."""
    missing = absent(directory, names) if len(names) > 1 else []
    if missing:
        raise DatasetError(
            f"mixture {text!r}: no dataset folder in {directory!r} for {missing}; add them, or write the "
            f"mixture without them or with '?' after the names of those that may be absent"
        )


def _written(text):
    parts, optional = [], set()
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, separator, weight = (piece.strip() for piece in part.partition(":"))
        if name.endswith("?"):
            name = name.removesuffix("?")
            optional.add(name)
        try:
            parts.append((name, float(weight) if separator else 1.0))
        except ValueError as error:
            raise MixtureError(f"mixture {text!r}: weight {weight!r} of {name!r} is not a number") from error
    _shares(text, parts)
    return Mixture(dict(parts), "as written", frozenset(optional), per_step=False)


def _shares(text, parts):
    names = [name for name, _ in parts]
    if not parts or not all(names):
        raise MixtureError(
            f"mixture {text!r}: expected a dataset, 'a:0.7,b:0.3' or one of {sorted(MIXTURES)}"
        )
    if len(set(names)) != len(names):
        raise MixtureError(f"mixture {text!r}: a dataset is repeated in {names}")
    for name, weight in parts:
        if not 0 < weight < float("inf"):
            raise MixtureError(f"mixture {text!r}: weight {weight} of {name!r}, expected a positive number")
    total = sum(weight for _, weight in parts)
    return {name: weight / total for name, weight in parts}


Schedule = tuple[tuple[int, dict[str, float]], ...]


def checked_schedule(segments: Sequence[tuple[int, Mapping[str, float]]]) -> Schedule:
    """A schedule [(from_step, {dataset: weight}), ...] with weights that sum to 1.

    Raises:
      MixtureError: it does not start at step 0, or its steps do not increase.
    """
    schedule = tuple(
        (int(step), _shares(str(dict(weights)), list(weights.items()))) for step, weights in segments
    )
    steps = [step for step, _ in schedule]
    if not steps or steps[0] != 0 or any(b <= a for a, b in zip(steps, steps[1:], strict=False)):
        raise MixtureError(
            f"mixture schedule: segments start at steps {steps}, expected 0 and strictly increasing"
        )
    return schedule


def continued(schedule: Sequence, step: int, weights: Mapping[str, float]) -> Schedule:
    """The schedule with `weights` from `step` on; unchanged if they already hold there.

    Segments from `step` on, which no batch has used yet, are replaced.

    Args:
      schedule: segments so far; () before the first.
      step: from which on.
      weights: of the datasets as they are to be drawn: those that count for each step times the steps, as
        `parse_mixture` gives them.
    """
    kept = used(schedule, step)
    shares = _shares(str(dict(weights)), list(weights.items()))
    if kept and _whole_weights(kept[-1][1]) == _whole_weights(shares):
        return kept
    return checked_schedule([*kept, (step if kept else 0, shares)])


def used(schedule: Sequence, step: int) -> Schedule:
    """The segments of a schedule that the first `step` batches have used; () of none."""
    return tuple(segment for segment in checked_schedule(schedule) if segment[0] < step) if schedule else ()


def dataset_names(schedule: Schedule) -> tuple[str, ...]:
    """Datasets of all segments in order of first appearance; a later segment shifts no index."""
    return tuple(dict.fromkeys(name for _, weights in schedule for name in weights))


@dataclasses.dataclass(frozen=True)
class Interleave:
    """Which dataset a unit of the stream comes from, and its position in that dataset.

    Attributes:
      starts: first unit of each segment; starts[0] is 0.
      weights: whole-number weights of each segment, one a dataset (0 = not in it).
    """

    starts: tuple[int, ...]
    weights: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, schedule: Schedule, units_per_step: int) -> Interleave:
        """The interleave of a schedule whose steps take `units_per_step` units each."""
        names = dataset_names(schedule)
        whole = [_whole_weights(weights) for _, weights in schedule]
        return cls(
            starts=tuple(step * units_per_step for step, _ in schedule),
            weights=tuple(tuple(weights.get(name, 0) for name in names) for weights in whole),
        )

    def counts(self, unit: int) -> tuple[int, ...]:
        """How many of the first `unit` units come from each dataset."""
        total = [0] * len(self.weights[0])
        ends = (*self.starts[1:], unit)
        for start, end, weights in zip(self.starts, ends, self.weights, strict=True):
            for dataset, count in enumerate(_counts(max(min(end, unit) - start, 0), weights)):
                total[dataset] += count
        return tuple(total)

    def locate(self, unit: int) -> tuple[int, int]:
        """(dataset, position in that dataset's own stream) of a unit."""
        if len(self.weights[0]) == 1:
            return 0, unit
        before, after = self.counts(unit), self.counts(unit + 1)
        dataset = next(d for d, (a, b) in enumerate(zip(before, after, strict=True)) if b > a)
        return dataset, before[dataset]


def _counts(num_units, weights):
    """Splits n units over the weights: the smallest takes its share of n, the next of the rest, and so on.

    Each share floor(n * w / rest of the weights) grows by 0 or 1 with n and the
    rest grows by the other, so every unit falls to exactly one dataset.
    """
    counts = [0] * len(weights)
    rest_units, rest_weight = num_units, sum(weights)
    for dataset in sorted(range(len(weights)), key=lambda d: (weights[d], d)):
        if weights[dataset]:
            counts[dataset] = rest_units * weights[dataset] // rest_weight
            rest_units -= counts[dataset]
            rest_weight -= weights[dataset]
    return counts


def _whole_weights(weights):
    return {name: max(1, round(weight * RESOLUTION)) for name, weight in weights.items()}
