"""What chips tell each other in a step, read from the compiled program."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from farsighted_jax.plan.hlo import Instruction, Program

KINDS = (
    "all-gather",
    "all-reduce",
    "reduce-scatter",
    "all-to-all",
    "ragged-all-to-all",
    "collective-permute",
    "collective-broadcast",
)
# Between slices of TPUs a message goes through the hosts, which do the rest of the work.
HOSTS = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
CHANNEL = re.compile(r"channel_id=\d+")
SHAPE = re.compile(r"\b([a-z]+\d*\w*)\[([\d,]*)\]")
LISTED = re.compile(r"replica_groups=\{(\{[\d,{}\s]*\})\}")
IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
MESH = re.compile(
    r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))?\s*\{([^}]*)\}"
)
AXIS = re.compile(r"'(\w+)'(?::\((\d+)\)(\d+))?")
PAIRS = re.compile(r"source_target_pairs=\{(\{[\d,{}\s]*\})\}")


def collectives(found: Program, num_chips: int, num_slices: int = 1) -> dict[str, dict[str, Any]]:
    """Messages of one step by kind.

    Args:
      found: the program of one chip.
      num_chips: of all slices.
      num_slices: in which chips stand one slice after the other.

    Returns:
      kind -> "count", how often it runs; "gib", what one chip sends, as a ring does it:
      an all-gather (n - 1) / n of its result, a reduce-scatter as much of its input, an
      all-reduce both; "network_gib", the part of it that goes to another slice. What hosts
      pass on between slices of TPUs are kinds of their own, "hosts-all-reduce" and the like.
    """
    totals: dict[str, dict[str, Any]] = {}
    for computation, line, times in _messages(found):
        kind, sent, network_share = _read(computation, line, num_chips, num_slices)
        entry = totals.setdefault(kind, {"count": 0, "gib": 0.0, "network_gib": 0.0})
        entry["count"] += times
        entry["gib"] += times * sent / 2**30
        entry["network_gib"] += times * sent * network_share / 2**30
    return totals


def _read(computation, line, num_chips, num_slices):
    """Kind of a message, bytes that one chip sends once, share of them that goes to another slice."""
    if hosts := _through_hosts(line):
        rounds = 2 * (num_slices - 1) / num_slices if hosts == "ALL_REDUCE" else 1
        # The first of the tuple's types is that of what is sent.
        sent = rounds * _bytes(line.type.partition("]")[0] + "]")
        return f"hosts-{hosts.lower().replace('_', '-')}", sent, 1.0
    kind = line.op.removesuffix("-start")
    # The TPU compiler writes a reduce-scatter as a fusion around an all-reduce.
    scatters = kind == "all-reduce" and "all-reduce-scatter" in computation
    groups = _groups(line.rest, num_chips)
    sent = _sent(line, kind, scatters, groups.shape[1])
    return "reduce-scatter" if scatters else kind, sent, _network_share(groups, num_chips // num_slices)


def _through_hosts(line):
    """What hosts do with a message that goes to another slice; None for any other instruction."""
    found = HOSTS.search(line.rest) if line.op == "send" else None
    return found and found[1]


def _messages(found):
    """(computation, instruction, runs) of each message.

    One that goes on beside other work stands in every fusion of that work, always with the same channel;
    permutations are never split so, and their channels mean nothing.
    """
    messages = {}
    for name, lines in found.computations.items():
        times = found.times[name]
        for line in lines if times else ():
            if line.op.removesuffix("-start") not in KINDS and not _through_hosts(line):
                continue
            channel = None if "permute" in line.op else CHANNEL.search(line.rest)
            key = (line.op, channel[0] if channel else line.name)
            if key not in messages or messages[key][2] < times:
                messages[key] = (name, line, times)
    return messages.values()


def _sent(line: Instruction, kind, scatters, size):
    """Bytes that one chip sends in a ring of `size` chips."""
    result = _bytes(line.type)
    if line.op == "all-gather-start":
        # The type of one that is begun has the operands too, a size-th of the results.
        result = result * size / (size + 1)
    elif line.op == "collective-permute-start":
        result = result / 2
    ring = (size - 1) / size
    if kind == "reduce-scatter":
        return result * (size - 1)
    if kind in ("collective-permute", "collective-broadcast"):
        return result
    return result * ring * (2 if kind == "all-reduce" and not scatters else 1)


def _network_share(groups, chips_per_slice):
    """Of a ring ordered slice by slice, the share of chips whose neighbour is in another slice."""
    slices = groups // chips_per_slice
    return float(np.mean(slices != np.roll(slices, -1, axis=1)))


def _groups(rest, num_chips):
    """int[groups, size] chips that talk to each other."""
    if found := MESH.search(rest):
        return _mesh_groups(*found.groups())
    if found := IOTA.search(rest):
        return _ids(found[2], found[3]).reshape(int(found[1].split(",")[0]), -1)
    if found := LISTED.search(rest) or PAIRS.search(rest):
        return np.array([_numbers(row) for row in re.findall(r"\{([\d,]+)\}", found[1])])
    return np.arange(num_chips)[None]


def _mesh_groups(axes, shape, order, grouped):
    """Of a mesh 'a'=2,'b'=4 the groups along {'a'}; 'b':(2)2 is the part of b that follows its first 2."""
    sizes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", axes)}
    number = math.prod(sizes.values())
    # An axis as (before, along, behind), of which only a part need be along the groups.
    parts = {name: (1, 1, size) for name, size in sizes.items()}
    for name, before, size in AXIS.findall(grouped):
        before, size = (int(before), int(size)) if before else (1, sizes[name])
        parts[name] = (before, size, sizes[name] // (before * size))
    ids = _ids(shape or str(number), order).reshape([size for part in parts.values() for size in part])
    along = list(range(1, ids.ndim, 3))
    first = [axis for axis in range(ids.ndim) if axis not in along]
    return ids.transpose(first + along).reshape(-1, math.prod(ids.shape[axis] for axis in along))


def _ids(shape, order):
    """Chips counted through an array of this shape, its axes then in another order."""
    ids = np.arange(math.prod(_numbers(shape))).reshape(_numbers(shape))
    return ids.transpose(_numbers(order)) if order else ids


def _numbers(text):
    return [int(number) for number in text.split(",")]


def _bytes(text):
    return sum(
        math.prod(int(size) for size in sizes.split(",") if size) * _width(dtype)
        for dtype, sizes in SHAPE.findall(text)
    )


def _width(dtype):
    """Bytes of an element: pred, bf16, f32, s8, f8e4m3fn."""
    bits = re.match(r"[a-z]+(\d+)", dtype)
    return max(int(bits[1]) / 8, 0.5) if bits else (0 if dtype == "token" else 1)
