"""A table of plans, kept as JSON: rows that are not finished are planned, each in a process of its own.

A file {"rows": [{"name": ..., "arguments": [...]}, ...]}: `arguments` are those of
`farsighted plan`. A finished row has its "plan" too, with what it took and on what machine.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from farsighted_jax.bench.data import host
from farsighted_jax.checkpoint.manifest import write_atomically
from farsighted_jax.plan.topology import PlanError

COLUMNS = (
    "configuration", "chips", "mesh (data, fsdp, tensor)", "batch", "fits", "GiB a chip, of",
    "messages, GiB a chip", "estimate: s a step", "utilisation, estimate", "planned in, CPU min",
)  # fmt: skip
OPEN = "not planned yet"


def fill(path: Path, report: Callable[[str], None]) -> dict[str, Any]:
    """Plans the unfinished rows of a file; it and its table, FILE.md, are written after each of them.

    Raises:
      PlanError: no such file, or a row whose plan ended with an error.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise PlanError(f"--table {path}: {error}") from error
    for row in table["rows"]:
        if row.get("plan") is None:
            report(f"{row['name']}: {command(row)}")
            row |= planned(row["arguments"])
            write_atomically(path, json.dumps(table, indent=1) + "\n")
            write_atomically(path.with_suffix(".md"), markdown(table))
    return table


def planned(arguments: list[str]) -> dict[str, Any]:
    """One plan, made by the command in another process: "plan", "minutes", "cpu_minutes", "host"."""
    line = [sys.executable, "-m", "farsighted_jax.cli.main", "plan", "--json", *arguments]
    begin, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if not done.stdout:
        raise PlanError(f"{' '.join(line[2:])} ended with status {done.returncode}; its message is above")
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "plan": json.loads(done.stdout.splitlines()[-1]),
        "minutes": round((time.perf_counter() - begin) / 60, 1),
        "cpu_minutes": round(seconds / 60, 1),
        "host": host(),
    }


def command(row: Mapping[str, Any]) -> str:
    """What makes a row."""
    return " ".join(["farsighted plan", *row["arguments"]])


def markdown(table: Mapping[str, Any]) -> str:
    """A line a row, open ones included, and the command of each."""
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    lines += [_line(_cells(row)) for row in table["rows"]]
    lines += ["", "Commands:", "", "```", *map(command, table["rows"]), "```", ""]
    return "\n".join(lines)


def _cells(row):
    plan = row.get("plan")
    if plan is None:
        chips = row["arguments"][row["arguments"].index("--topology") + 1]
        return [row["name"], chips, *[""] * (len(COLUMNS) - 3), OPEN]
    place = plan["topology"]
    chips = f"{place['chips']}, {place['name']}" + (f" x {place['slices']}" if place["slices"] > 1 else "")
    peak = "more than that" if plan["peak_gib_per_chip"] is None else f"{plan['peak_gib_per_chip']:.1f}"
    return [
        row["name"],
        chips,
        ", ".join(str(size) for size in plan["mesh"].values()),
        str(plan["batch_size"]),
        "yes" if plan["fits"] else "no",
        f"{peak} of {plan['hbm_gib_per_chip']:.1f}",
        *_estimates(plan),
        f"{row['cpu_minutes']:.1f}",
    ]


def _estimates(plan):
    if plan["collectives"] is None:
        return [""] * 3
    messages = ", ".join(
        f"{kind} {entry['gib']:.2f}" for kind, entry in plan["collectives"].items() if entry["gib"] > 5e-3
    )
    return [messages, f"{plan['step_s_estimate']:.3g}", f"{plan['mfu_estimate']:.0%}"]


def _line(entries):
    return "| " + " | ".join(entries) + " |"
