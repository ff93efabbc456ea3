"""What a dataset holds and what is wrong with it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from data_pipelines.checks import episodes, images, meaning, motion, ranges
from data_pipelines.checks.finding import ERROR, SEVERITIES, Finding
from data_pipelines.checks.survey import IMAGE_EPISODES, Survey, survey
from data_pipelines.dataset import Place, open_split, split_names
from data_pipelines.errors import DatasetError, NonFiniteError
from data_pipelines.oddities import oddities, state_names
from data_pipelines.split import EpisodeSplit

CHECKS: tuple[Callable[[Survey], Iterator[Finding]], ...] = (
    episodes.check_damage,
    episodes.check_lengths,
    motion.check_rate,
    motion.check_speed,
    images.check_images,
    images.check_depth,
    ranges.check_oddities,
    ranges.check_units,
    motion.check_jumps,
    meaning.check_assumed,
    meaning.check_meaning,
    ranges.check_gripper_ends,
    meaning.check_gripper_polarity,
    episodes.check_language,
    motion.check_idle,
)
MAX_EPISODES = 10_000
_MAX_LISTED = 10
_KINDS = ("min", "max", "mean", "std", "q01", "q99")


@dataclasses.dataclass(frozen=True)
class Report:
    """What was found in one dataset.

    Attributes:
      place: where it lies.
      surveys: what was seen of each split that could be opened.
      findings: the gravest first.
    """

    place: Place
    surveys: list[Survey]
    findings: list[Finding]

    def of(self, severity: str) -> list[Finding]:
        """Findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "dataset": self.place.name,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
            "splits": {seen.split.split: split_summary(seen) for seen in self.surveys},
        }


def validate(
    place: Place,
    splits: Sequence[str] = (),
    *,
    max_episodes: int = MAX_EPISODES,
    every_image: bool = False,
    cache_dir: str | None = None,
) -> Report:
    """Reads a dataset and reports all that is wrong with it; nothing but its absence is raised.

    Args:
      place: where it lies.
      splits: which of its splits, or slices of them; by default all.
      max_episodes: read at most so many of a split, evenly spread; 0 for all.
      every_image: decode every image instead of a sample.
      cache_dir: see `cache.cache_path`.
    """
    surveys, findings = [], []
    try:
        splits = splits or split_names(place)
    except DatasetError as error:
        findings.append(_unopened(place.name, error))
        splits = ()
    for name in splits:
        try:
            split = open_split(place.directory, place.name, name, version=place.version, cache_dir=cache_dir)
        except DatasetError as error:
            findings.append(_unopened(f"{place.name}:{name}", error))
            continue
        seen = survey(split, max_episodes=max_episodes, every_image=every_image)
        surveys.append(seen)
        for check in CHECKS:
            findings += check(seen)
    if surveys:
        findings += episodes.check_duplicates(surveys)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Report(place, surveys, findings)


def dataset_report(split: EpisodeSplit, max_episodes: int | None = None) -> dict[str, Any]:
    """Reads an open split, at most so many episodes evenly spread, for `split_summary`."""
    return split_summary(survey(split, max_episodes=max_episodes or 0, image_episodes=IMAGE_EPISODES))


def split_summary(seen: Survey) -> dict[str, Any]:
    """What a split holds, JSON-able.

    Returns:
      dataset, version, split, fingerprint, hz, episodes, steps, length (min,
      median, max), cameras, action (one entry a dimension, with unit), action_groups,
      state, no_op_share (see `checks.motion.idle_steps`), constant_dimensions,
      outliers, instructions, damaged.
    """
    split, lengths = seen.split, [episode.num_steps for episode in seen.episodes]
    idle = motion.idle_steps(seen)
    odd = oddities(seen.statistics, split.spec)
    kinds = episodes.text_kinds(seen)
    return {
        "dataset": split.name,
        "version": split.version,
        "split": split.split,
        "fingerprint": split.fingerprint,
        "hz": split.spec.hz,
        "episodes": len(lengths),
        "steps": int(sum(lengths)),
        "length": _length_summary(lengths),
        "cameras": {camera.name: _camera_summary(seen, camera) for camera in split.spec.cameras},
        **_array_summaries(seen),
        "no_op_share": float(np.concatenate(list(idle.values())).mean()) if idle else None,
        "constant_dimensions": [o.dimension for o in odd if (o.kind, o.array) == ("constant", "action")],
        "outliers": [str(oddity) for oddity in odd if oddity.kind == "outlier"],
        "instructions": {kind: kinds[kind] for kind in ("present", "missing", "not_utf8")},
        "damaged": {
            "episodes": len({number for number, _ in seen.failures}),
            "not_finite": sum(isinstance(error, NonFiniteError) for _, error in seen.failures),
            "reasons": [str(error) for _, error in seen.failures[:_MAX_LISTED]],
        },
    }


def _unopened(place, error):
    return Finding(ERROR, "schema", place, str(error), "mend what the message names, then look again")


def _camera_summary(seen, camera):
    images = [image for image in seen.images if image.camera == camera.name]
    blank = sum(image.spread == 0 for image in images)
    return {
        "rgb": camera.rgb_key,
        "depth": camera.depth_key,
        "sizes": dict(Counter(f"{image.height}x{image.width}" for image in images)),
        "sampled_frames": len(images),
        "blank_frames": blank,
        "blank": bool(images) and blank == len(images),
    }


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


def _array_summaries(seen):
    spec, found = seen.spec, seen.statistics
    action = groups = state = None
    if found.action:
        rows = zip(spec.action.names, spec.action.units, spec.action.delta, strict=True)
        action = {
            name: {"unit": unit, "delta": delta, **_values(found.action, i)}
            for i, (name, unit, delta) in enumerate(rows)
        }
        groups = {name: _values(of, 0) for name, of in found.groups(spec.action).items()}
    if found.state:
        names = state_names(spec, len(found.state.mean))
        state = {name: _values(found.state, i) for i, name in enumerate(names)}
    return {"action": action, "action_groups": groups, "state": state}


def _values(statistics, i):
    return {kind: float(getattr(statistics, kind)[i]) for kind in _KINDS} | {"count": statistics.count}
