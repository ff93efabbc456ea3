"""Chips that are not there: what a name such as v5e:16x16 stands for, and devices to compile for."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

import jax

from farsighted_jax.bench.devices import CHIPS, Chip

NAME = r"([a-z]\w*):(\d+(?:x\d+)*)"
# Libtpu asks the machine for its chips otherwise, and lets one process at a time have it.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
# Two cores of a v4 are one device.
OPTIONS = {"v4": {"chip_config_name": "megacore"}}


class PlanError(ValueError):
    """Something a plan cannot be made for; the message says what to do."""


class Topology(NamedTuple):
    """Slices of TPUs, or nodes of GPUs.

    Attributes:
      name: chip and shape of one slice, e.g. "v5e:16x16"; "h100:8" for a node.
      chip: its entry in `CHIPS`.
      num_slices: how many, connected by a network.
      chips_per_slice: devices of each.
    """

    name: str
    chip: str
    num_slices: int
    chips_per_slice: int

    @property
    def facts(self) -> Chip:
        """What one device can do."""
        return CHIPS[self.chip]

    @property
    def num_chips(self) -> int:
        """Devices of all slices."""
        return self.num_slices * self.chips_per_slice

    @property
    def simulated(self) -> bool:
        """Whether the program is compiled for the CPU instead, for want of the chip's compiler."""
        return bool(self.facts.most)


def topology(name: str, num_slices: int = 1) -> Topology:
    """Reads a topology's name.

    Args:
      name: CHIP:AxB[xC] of TPUs, counted in chips, or CHIP:N of GPUs in one node.
      num_slices: slices of TPUs, or nodes of GPUs.

    Raises:
      PlanError: unknown, or a node larger than nodes are.
    """
    found = re.fullmatch(NAME, name)
    if not found or found[1] not in CHIPS:
        raise PlanError(
            f"topology {name!r} is unknown; expected CHIP:SHAPE in chips, such as v5e:16x16, v5p:8x8x8 or "
            f"h100:8, with a chip of {', '.join(CHIPS)}"
        )
    if num_slices < 1:
        raise PlanError(f"{num_slices} slices, expected at least 1")
    chips, most = math.prod(map(int, found[2].split("x"))), CHIPS[found[1]].most
    if chips < 1 or (most and chips > most):
        raise PlanError(
            f"topology {name!r}: a node has 1 to {most or 'any number of'} chips; "
            f"{found[1]}:{most} --slices N stands for N nodes"
        )
    return Topology(name, found[1], num_slices, chips)


def devices(wanted: Topology) -> Sequence[jax.Device]:
    """Devices to compile for; none of them can run anything but simulated ones.

    Raises:
      ModuleNotFoundError: libtpu is not installed.
      PlanError: it does not know the topology, or the backend has started with
        fewer simulated devices.
    """
    if wanted.simulated:
        return _simulated(wanted.num_chips)
    importlib.import_module("libtpu")
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from jax.experimental import topologies

    slices = {"num_slices": wanted.num_slices} if wanted.num_slices > 1 else {}
    try:
        found = topologies.get_topology_desc(
            platform="tpu", topology_name=wanted.name, **OPTIONS.get(wanted.chip, {}), **slices
        )
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        raise PlanError(
            f"topology {wanted.name!r}, {wanted.num_slices} slice(s): libtpu says: "
            f"{str(error).splitlines()[0]}; expected a shape that this chip is sold in"
        ) from error
    return found.devices


def _simulated(number):
    # Too late once the backend has started, which the count of its devices then tells.
    with contextlib.suppress(RuntimeError):
        jax.config.update("jax_num_cpu_devices", number)
    found = jax.devices("cpu")
    if len(found) < number:
        raise PlanError(
            f"{number} simulated devices are needed, but jax has started with {len(found)}; "
            f"set XLA_FLAGS=--xla_force_host_platform_device_count={number}"
        )
    return found[:number]
