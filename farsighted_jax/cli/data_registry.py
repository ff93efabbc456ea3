"""Prints the datasets that are known without a specification beside them, and the mixtures that hold them."""

from __future__ import annotations

import argparse
import json
from typing import Any

from farsighted_jax.cli import arguments

# Longer cells move what is right of them.
_WIDTH = 72
_HEADERS = ("dataset", "embodiment", "cameras", "action", "Hz", "mixtures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the options."""
    parser.add_argument("dataset", nargs="?", help="print all that is known of this one")
    parser.add_argument(
        "--mixtures", action="store_true", help="print the mixtures, weights and their sources"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def main(parser: argparse.ArgumentParser, flags: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from data_pipelines.oxe.registry import BLOCKS, spec_for

    if flags.dataset and flags.mixtures:
        arguments.fail(parser, f"--mixtures prints all mixtures; expected no dataset, got {flags.dataset!r}")
    if flags.dataset:
        spec_for(flags.dataset)
        found, lines = [_facts(BLOCKS[flags.dataset])], _details
    elif flags.mixtures:
        found, lines = _mixtures(), _mixture_lines
    else:
        found, lines = [_facts(block) for block in BLOCKS.values()], _table
    print(json.dumps(found, indent=2) if flags.json else "\n".join(lines(found)))
    return 0


def action_layout(action) -> str:
    """Names, units and meaning of an action's columns, and its frame: "x y z (m change), gripper; base"."""
    if action is None:
        return "none"
    runs: list[tuple[tuple, list[str]]] = []
    for name, *meaning in zip(action.names, action.groups, action.units, action.delta, strict=True):
        if not runs or runs[-1][0] != tuple(meaning):
            runs.append((tuple(meaning), []))
        runs[-1][1].append(name)
    parts = [_run(names, *meaning, action.rotation) for meaning, names in runs]
    return f"{', '.join(parts)}; {action.frame}"


def _run(names, group, unit, delta, rotation):
    # Grippers are openings, 1 = open, wherever they are no changes.
    if group == "gripper" and not delta:
        return " ".join(names)
    meaning = [unit, "change" if delta else "absolute", *([rotation] if group == "rotation" else [])]
    return f"{_short(names)} ({' '.join(meaning)})"


def _short(names):
    return " ".join(names) if len(names) < 4 else f"{names[0]}..{names[-1]}"


def _facts(block) -> dict[str, Any]:
    from data_pipelines.oxe.mixtures import MIXTURES

    spec = block.spec
    return {
        "dataset": block.name,
        "embodiment": block.robot,
        "versions": list(block.versions),
        "cameras": {
            camera.name: [camera.rgb_key, *filter(None, [camera.depth_key])] for camera in spec.cameras
        },
        "action": action_layout(spec.action),
        "gripper": _gripper(block),
        "state": list(spec.state_names),
        "hz": spec.hz,
        "language": list(block.table.language),
        "mixtures": [name for name, mixture in MIXTURES.items() if block.name in mixture.weights],
        "defects": [*block.defects, *([f"other versions: {block.pinned}"] if block.pinned else [])],
        "sources": dict(block.sources),
    }


def _gripper(block):
    """How the stored gripper becomes an opening, 1 = open."""
    found = [part for part in block.table.action if part.ends]
    if found:
        opened, closed = found[0].ends
        kind = "commands, held in between" if found[0].form == "held" else "positions"
        return f"{found[0].key}: {kind}; stored {opened:g} is open, {closed:g} closed"
    action = block.spec.action
    stored = action and any(
        group == "gripper" and not delta for group, delta in zip(action.groups, action.delta, strict=True)
    )
    return "as stored" if stored else "none"


def _table(found):
    rows = [_HEADERS]
    for facts in found:
        cameras = [role + ("+depth" if len(keys) > 1 else "") for role, keys in facts["cameras"].items()]
        rows.append(
            (
                facts["dataset"],
                facts["embodiment"],
                " ".join(cameras),
                facts["action"],
                f"{facts['hz']:g}",
                " ".join(facts["mixtures"]) or "-",
            )
        )
    widths = [min(max(len(row[i]) for row in rows), _WIDTH) for i in range(len(_HEADERS) - 1)]
    for row in rows:
        yield "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])
    yield f"{len(found)} datasets"


def _details(found):
    for name, value in found[0].items():
        if isinstance(value, dict):
            lines = [
                f"{key}: {' '.join(item) if isinstance(item, list) else item}" for key, item in value.items()
            ]
        else:
            lines = value if isinstance(value, list) else [value]
        yield f"{name}:"
        yield from (f"  {line}" for line in lines)


def _mixtures() -> list[dict[str, Any]]:
    from data_pipelines.oxe.mixtures import MIXTURES

    return [
        {
            "mixture": name,
            "source": mixture.source,
            "weights": dict(mixture.weights),
            "optional": sorted(mixture.optional),
            "per_step": mixture.per_step,
        }
        for name, mixture in MIXTURES.items()
    ]


def _mixture_lines(found):
    for mixture in found:
        counts = "for each step" if mixture["per_step"] else "shares of the samples"
        yield f"{mixture['mixture']} ({counts}; {mixture['source']})"
        for name, weight in mixture["weights"].items():
            yield f"  {weight:<8.4g} {name}{' (optional)' if name in mixture['optional'] else ''}"
