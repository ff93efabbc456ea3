"""XLA flags for tests, as far as the jaxlib that is installed knows them."""

from __future__ import annotations

import importlib.util
import mmap
from pathlib import Path

# Compiling is quick and programs are slow: tests compile much and run little. Together they cut the
# processor time of a small training run, compilation included, to a third.
QUICK_COMPILATION = {
    "xla_backend_optimization_level": "0",
    "xla_cpu_use_fusion_emitters": "false",
    "xla_cpu_parallel_codegen_split_count": "1",
}

# Eight simulated devices share what cores there are, with other tests beside them. By default XLA ends the
# process once one of them keeps the others waiting for 40 seconds.
PATIENCE = {
    "xla_cpu_collective_call_terminate_timeout_seconds": "300",
    "xla_cpu_collective_timeout_seconds": "300",
}


def with_flags(xla_flags: str, wanted: dict[str, str]) -> str:
    """The flags with those wanted added that are not there yet and that this jaxlib knows."""
    missing = [name for name in wanted if name not in xla_flags]
    known = _known(missing) if missing else []
    return " ".join([xla_flags, *(f"--{name}={wanted[name]}" for name in known)]).strip()


def _known(names):
    """Those that stand in a library of jaxlib as a C string, as others are but names of former options.

    A flag that XLA does not know ends the process.
    """
    found = set()
    for library in Path(importlib.util.find_spec("jaxlib").origin).parent.glob("*.so"):
        with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            found |= {name for name in names if content.find(b"\0%s\0" % name.encode()) >= 0}
    return [name for name in names if name in found]
