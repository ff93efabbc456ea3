"""The card of a dataset: one self-contained page with findings, pictures, histograms and statistics."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from pathlib import Path

from data_pipelines.checks.survey import Survey
from data_pipelines.errors import DatasetError
from data_pipelines.oddities import state_names
from data_pipelines.statistics import depth_statistics
from data_pipelines.validate import Report
from farsighted_jax.core.spec import to_dict
from farsighted_jax.viz import dataset_pictures as pictures
from farsighted_jax.viz.page import Picture, Section, Table, write_page

MAX_INSTRUCTIONS = 12
_COLUMNS = ("mean", "std", "min", "q01", "q99", "max")


def write_card(path: str | Path, report: Report) -> Path:
    """Writes the card of a dataset and returns its path.

    Raises:
      ImportError: matplotlib is not installed (extra "plot").
      OSError: the file cannot be written.
    """
    with tempfile.TemporaryDirectory() as folder:
        sections = [_findings(report)]
        if report.surveys:
            sections.append(_content(report, Path(folder)))
        for number, seen in enumerate(report.surveys):
            sections += _split_sections(seen, Path(folder) / str(number))
        if report.surveys:
            text = json.dumps(to_dict(report.surveys[0].spec), indent=2)
            sections.append(Section("Specification", "What the numbers mean.", folded=text))
        return write_page(path, f"Dataset {report.place.name}", sections, _lead(report))


def _lead(report):
    if not report.surveys:
        return "It could not be opened."
    spec = report.surveys[0].spec
    episodes = sum(len(seen.episodes) for seen in report.surveys)
    steps = sum(episode.num_steps for seen in report.surveys for episode in seen.episodes)
    duration = f"{_duration(steps / spec.hz)} at {spec.hz:g} Hz" if spec.hz else "rate not known"
    source = f" Source: {spec.source}." if spec.source else ""
    return f"{episodes} episodes, {steps} steps, {duration}.{source}"


def _duration(seconds):
    for unit, length in (("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"


def _findings(report):
    if not report.findings:
        return Section("What to mend", "Nothing was found to be wrong.")
    counts = Counter(finding.severity for finding in report.findings)
    text = ", ".join(f"{count} {severity}(s)" for severity, count in counts.items())
    rows = [(f.severity, f.check, f.place, f.found, f.mend) for f in report.findings]
    columns = ("severity", "check", "where", "found", "to mend")
    return Section("What to mend", text, tables=[Table("The gravest first", columns, rows, wrap=True)])


def _content(report, folder):
    rows = [
        (
            seen.split.split,
            str(seen.split.num_episodes),
            str(len(seen.episodes)),
            str(len({number for number, _ in seen.failures})),
            str(sum(episode.num_steps for episode in seen.episodes)),
            seen.split.fingerprint[:16],
        )
        for seen in report.surveys
    ]
    columns = ("split", "episodes", "read", "damaged", "steps", "fingerprint")
    path = pictures.length_histogram(folder / "lengths.png", report.surveys)
    return Section(
        "Content",
        tables=[Table("Splits", columns, rows)],
        pictures=[Picture(path, "Lengths of the episodes")],
    )


def _split_sections(seen: Survey, folder: Path):
    shown = []
    for camera in seen.spec.cameras:
        for make, caption in (
            (pictures.thumbnails, "first frames"),
            (pictures.keyframe_strips, "episodes from their first to their last frame"),
        ):
            path = make(folder / f"{make.__name__}-{camera.name}.png", seen, camera)
            if path:
                shown.append(Picture(path, f"Camera {camera.name} ({camera.rgb_key}): {caption}"))
    yield Section(f"Split {seen.split.split}: pictures", tables=[_instructions(seen)], pictures=shown)
    drawn = []
    for make, caption in (
        (pictures.action_histograms, "Actions; dashed: 1 % and 99 %, what lies far beyond is at the ends"),
        (pictures.state_histograms, "State, likewise"),
    ):
        path = make(folder / f"{make.__name__}.png", seen)
        if path:
            drawn.append(Picture(path, caption))
    yield Section(f"Split {seen.split.split}: numbers", tables=list(_tables(seen)), pictures=drawn)


def _instructions(seen):
    texts = Counter(episode.instruction.decode("utf-8", errors="replace") for episode in seen.episodes)
    rows = [(text or "(none)", str(count)) for text, count in texts.most_common(MAX_INSTRUCTIONS)]
    caption = f"Instructions, the most frequent of {len(texts)}"
    return Table(caption, ("instruction", "episodes"), rows, wrap=True)


def _tables(seen):
    spec, found = seen.spec, seen.statistics
    if found.action:
        rows = [
            (name, group, unit, "change" if delta else "absolute", *_numbers(found.action, i))
            for i, (name, group, unit, delta) in enumerate(
                zip(spec.action.names, spec.action.groups, spec.action.units, spec.action.delta, strict=True)
            )
        ]
        caption = f"Action, {found.action.count} steps; gripper 1 = open, 0 = closed"
        yield Table(caption, ("dimension", "group", "unit", "kind", *_COLUMNS), rows)
        groups = [(name, str(of.count), *_numbers(of, 0)) for name, of in found.groups(spec.action).items()]
        yield Table("Action groups, all values of a group together", ("group", "values", *_COLUMNS), groups)
    if found.state:
        names = state_names(spec, len(found.state.mean))
        rows = [(name, *_numbers(found.state, i)) for i, name in enumerate(names)]
        yield Table(f"State, {found.state.count} steps", ("dimension", *_COLUMNS), rows)
    depth = [_depth_row(seen, camera) for camera in spec.cameras if camera.depth_key]
    if depth:
        yield Table("Log depth, for normalisation", ("camera", "mean of ln m", "std of ln m"), depth)


def _depth_row(seen, camera):
    try:
        constants = depth_statistics(seen.split, seen.statistics.lengths, camera.name)
        return (camera.name, *(f"{value:.4g}" for value in constants))
    except DatasetError:
        return (camera.name, "cannot be read", "")


def _numbers(statistics, i):
    # Adding 0 makes -0 a 0.
    return [f"{float(getattr(statistics, column)[i]) + 0.0:.4g}" for column in _COLUMNS]
