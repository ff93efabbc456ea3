"""A compiled program's text: computations, how often each runs, and the kernel that attention runs in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

INSTRUCTION = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?)\s([a-z][\w\-]*)\((.*)$")
HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$")
CALLED = re.compile(r"(body|condition|calls|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
BOUND = re.compile(r"%?([\w.\-]+)\), direction=LT")
# Kernels are custom calls: Pallas on TPU, cuDNN on GPU. Others sort, draw random numbers or mark shardings.
KERNEL_TARGETS = re.compile(r'custom_call_target="(tpu_custom_call|__cudnn\$fmha\w*)"')
ATTENTION = re.compile(r"\w*(?:flash|splash|fmha|attention)\w*", re.IGNORECASE)


class Instruction(NamedTuple):
    """One line of a computation.

    Attributes:
      name: of its result.
      type: of its result, as text.
      op: what it does.
      rest: operands and attributes, as text.
    """

    name: str
    type: str
    op: str
    rest: str


class Program(NamedTuple):
    """Computations of a program.

    Attributes:
      computations: name -> instructions.
      times: name -> how often it runs a step.
      unknown_loops: loops whose number of rounds the text does not tell; they count as one.
    """

    computations: Mapping[str, list[Instruction]]
    times: Mapping[str, int]
    unknown_loops: int


def program(text: str) -> Program:
    """Reads `jax.stages.Compiled.as_text()`."""
    computations, entry, current = {}, "", None
    for line in text.splitlines():
        if header := HEADER.match(line):
            current = computations.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif current is not None and (found := INSTRUCTION.match(line)):
            current.append(Instruction(*found.groups()))
    times, unknown = _times(computations, entry)
    return Program(computations, times, unknown)


def attention_kernel(found: Program) -> str:
    """Name of the kernel that attention runs in; "xla" where it is plain operations."""
    for lines in found.computations.values():
        for line in lines:
            if line.op == "custom-call" and (target := KERNEL_TARGETS.search(line.rest)):
                if target[1] != "tpu_custom_call":
                    return target[1]
                if named := ATTENTION.search(line.name) or ATTENTION.search(_metadata(line.rest)):
                    return named[0]
    return "xla"


def _metadata(rest):
    found = re.search(r"metadata=\{[^}]*\}", rest)
    return found[0] if found else ""


def _times(computations, entry):
    """Runs of each computation, callers before what they call."""
    calls, unknown = {name: [] for name in computations}, 0
    for name, lines in computations.items():
        for line in lines:
            trips = 1
            if line.op == "while":
                trips = _trips(computations, line)
                trips, unknown = (trips, unknown) if trips else (1, unknown + 1)
            called = [target for _, target in CALLED.findall(line.rest)]
            for names in BRANCHES.findall(line.rest):
                called += [target.strip().lstrip("%") for target in names.split(",")]
            calls[name] += [(target, trips) for target in called if target in computations]
    times = dict.fromkeys(computations, 0)
    times[entry] = 1
    for name in _callers_first(calls, entry):
        for target, trips in calls[name]:
            times[target] += times[name] * trips
    return times, unknown


def _trips(computations, loop):
    """Rounds of a loop, None where they cannot be told.

    The TPU compiler's text leaves them out. A scan counts from 0 in ones while that is less than a constant.
    """
    if known := TRIPS.search(loop.rest):
        return int(known[1])
    condition = computations.get(dict(CALLED.findall(loop.rest)).get("condition"), [])
    bounds = [found[1] for line in condition if line.op == "compare" and (found := BOUND.search(line.rest))]
    values = {line.name: line.rest.partition(")")[0] for line in condition if line.op == "constant"}
    if len(bounds) != 1 or not values.get(bounds[0], "").isdigit():
        return None
    return int(values[bounds[0]])


def _callers_first(calls, entry):
    """Depth first, last finished first; the graph has no cycle."""
    order, seen, stack = [], {entry}, [(entry, iter(calls.get(entry, ())))]
    while stack:
        name, targets = stack[-1]
        target = next((target for target, _ in targets if target not in seen), None)
        if target is None:
            order.append(name)
            stack.pop()
        else:
            seen.add(target)
            stack.append((target, iter(calls[target])))
    return order[::-1]
