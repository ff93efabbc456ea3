"""Looks for what is wrong with a dataset: prints what to mend, writes a card with pictures and statistics."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from farsighted_jax.cli import arguments


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("directory", help="a dataset, one version of it, or a folder of datasets")
    parser.add_argument("--out", help="card to write, .html; with several datasets a folder of cards")
    parser.add_argument("--split", nargs="+", default=[], help="splits or slices (default: all splits)")
    parser.add_argument(
        "--episodes", type=int, help="read this many of a split, evenly spread; 0: all (default: 10000)"
    )
    parser.add_argument("--every-image", action="store_true", help="decode every image (default: a sample)")
    parser.add_argument("--cache-dir", help="folder of derived files (default: beside the data)")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def main(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> int:
    """Runs the command; status 1 if training would be refused or would learn something wrong."""
    from data_pipelines.dataset import find_datasets
    from data_pipelines.validate import MAX_EPISODES, validate

    episodes = MAX_EPISODES if flags.episodes is None else flags.episodes
    if episodes < 0:
        arguments.fail(parser, f"--episodes is {episodes}, expected 0 (all) or more")
    places = find_datasets(flags.directory)
    reports = []
    for place in places:
        report = validate(
            place,
            flags.split,
            max_episodes=episodes,
            every_image=flags.every_image,
            cache_dir=flags.cache_dir,
        )
        reports.append(report)
        if not flags.json:
            print("\n".join(_lines(report)))
        if flags.out:
            _write_card(report, _card_path(flags.out, place.name, len(places)), quiet=flags.json)
    if flags.json:
        print(json.dumps([report.to_dict() for report in reports], indent=2))
    return int(any(report.of("error") for report in reports))


def _card_path(out, name, num_datasets):
    return Path(out) if num_datasets == 1 else Path(out) / f"{name}.html"


def _write_card(report, path, quiet):
    from farsighted_jax.viz.dataset_card import write_card

    write_card(path, report)
    if not quiet:
        print(f"card: {path}")


def _lines(report):
    for seen in report.surveys:
        steps = sum(episode.num_steps for episode in seen.episodes)
        yield (
            f"{seen.place}: {len(seen.episodes)} episodes, {steps} steps, {len(seen.images)} images looked at"
        )
    for finding in report.findings:
        yield f"{finding.severity}: {finding.check}: {finding.place}: {finding.found}"
        if finding.mend:
            yield f"    to mend: {finding.mend}"
    counts = ", ".join(
        f"{len(report.of(severity))} {severity}(s)" for severity in ("error", "warning", "note")
    )
    yield f"{report.place.name}: {counts}"
