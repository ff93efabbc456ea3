"""What is installed on this machine: packages, devices, optional parts, storage.

Facts only; `doctor` judges them.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.version import Version

DISTRIBUTION = "farsighted-jax"

# Extra of setup.py -> what it brings, by import name.
EXTRAS = {
    "build": ("tensorflow",),
    "gcs": ("gcsfs",),
    "convert": ("safetensors", "huggingface_hub"),
    "text": ("tokenizers",),
    "lerobot": ("pyarrow", "av"),
    "hdf5": ("h5py",),
    "beam": ("apache_beam",),
    "parity": ("torch", "transformers"),
    "serve": ("websockets", "msgpack"),
    "sim": ("metaworld", "gymnasium_robotics"),
    "plot": ("matplotlib",),
    "plan": ("libtpu",),
    "tensorboard": ("tensorboardX",),
    "dev": ("pytest", "ruff", "rlds"),
}

# Every package the core install needs, by import name: all of them must import together.
CORE_MODULES = (
    "jax flax.linen optax orbax.checkpoint chex ml_collections numpy grain tensorflow_datasets "
    "importlib_resources array_record google_crc32c cv2 etils.epath tqdm absl packaging"
).split()

DEVICE_TIMEOUT_S = 90.0

_PROBE_IMPORTS = """
import importlib, json, sys
failed = {}
for name in json.loads(sys.argv[1]):
    try:
        importlib.import_module(name)
    except Exception as error:
        failed[name] = f"{type(error).__name__}: {error}"
print(json.dumps(failed))
"""

_PROBE_DEVICES = """
import json, jax, jax.numpy as jnp
found = [{"platform": d.platform, "kind": d.device_kind} for d in jax.devices()]
assert float(jnp.ones((2, 3)).sum()) == 6.0
print(json.dumps(found))
"""


def host() -> dict[str, Any]:
    """Python, operating system, usable CPU cores and memory (GB)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    # In a container the control group, not the machine, sets the limit.
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (words := limit.read_text().strip()).isdigit():
        memory = min(memory, int(words))
    return {
        "python": platform.python_version(),
        "executable": sys.executable,
        "os": platform.platform(),
        "machine": platform.machine(),
        "cpu_cores": cores,
        "memory_gb": round(memory / 1e9, 1),
    }


def packages() -> list[dict[str, Any]]:
    """One entry a core package: `name`, `bounds`, `version` (None if absent), `ok`."""
    entries = []
    for requirement in _requirements():
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _installed(requirement.name)
        entries.append(
            {
                "name": requirement.name,
                "bounds": str(requirement.specifier),
                "version": found,
                "ok": found is not None and requirement.specifier.contains(Version(found), prereleases=True),
            }
        )
    return entries


def devices(timeout_s: float) -> dict[str, Any]:
    """What jax finds, asked in a subprocess because a broken accelerator blocks for ever.

    Returns:
      `found` (a list of platform and kind; [] if none), `error` ("" if none),
      `accelerators` (hardware seen without jax, e.g. "NVIDIA GPU") and
      `import_errors` (core module -> error).
    """
    found, error = _probe(_PROBE_DEVICES, [], timeout_s)
    broken, import_error = _probe(_PROBE_IMPORTS, [json.dumps(CORE_MODULES)], timeout_s)
    return {
        "found": found or [],
        "error": error,
        "accelerators": accelerators(),
        "import_errors": {"import check": import_error} if import_error else broken,
    }


def accelerators() -> list[str]:
    """Accelerators the operating system shows, whether jax can use them or not."""
    seen = []
    if shutil.which("nvidia-smi"):
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        try:
            listed = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
            seen += [f"NVIDIA GPU ({name.strip()})" for name in listed.stdout.splitlines() if name.strip()]
        except (subprocess.SubprocessError, OSError):
            pass  # A driver tool without a working driver means no GPU.
    if list(Path("/dev").glob("accel[0-9]*")):
        seen.append("TPU")
    return seen


def extras() -> list[dict[str, Any]]:
    """One entry an optional part: `name`, `missing` packages, and the `command` that gets them."""
    entries = []
    for name, modules in EXTRAS.items():
        missing = [module for module in modules if importlib.util.find_spec(module) is None]
        entries.append({"name": name, "missing": missing, "command": pip_command(name) if missing else ""})
    return entries


def pip_command(extra: str) -> str:
    """The command that installs an optional part."""
    return f"pip install -e '.[{extra}]' in the {DISTRIBUTION} checkout"


def storage() -> dict[str, Any]:
    """The cache folder, whether it can be written, and free space (GB) there and in the current folder."""
    cache = cache_folder()
    error = ""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=cache):
            pass
    except OSError as problem:
        error = f"{type(problem).__name__}: {problem}"
    return {
        "cache": str(cache),
        "cache_error": error,
        "cwd": str(Path.cwd()),
        "cwd_free_gb": round(shutil.disk_usage(Path.cwd()).free / 1e9, 1),
    }


def cache_folder() -> Path:
    """Where indexes and statistics go that cannot stand beside their data."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("FARSIGHTED_CACHE") or Path(base) / "farsighted")


def _probe(code, argv, timeout_s):
    """Runs `code` in a fresh interpreter: (its last line as JSON, "") or (None, error)."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", code, *argv], capture_output=True, text=True, timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        return None, f"no answer within {timeout_s:g} s; the device may be in use by another process or stuck"
    if done.returncode:
        tail = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return None, tail[-1]
    return json.loads(done.stdout.strip().splitlines()[-1]), ""


def _requirements():
    try:
        return [Requirement(line) for line in importlib.metadata.requires(DISTRIBUTION) or ()]
    except importlib.metadata.PackageNotFoundError:
        return []


def _installed(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
