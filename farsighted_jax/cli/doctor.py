"""`farsighted doctor`: does this installation work, and what is missing?"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence
from typing import Any

from farsighted_jax import __version__
from farsighted_jax.cli import arguments, installation

LITTLE_DISK_GB = 5.0


def main(argv: Sequence[str]) -> int:
    """Prints the report; 0 if the core works, 1 otherwise."""
    parser = argparse.ArgumentParser(prog="farsighted doctor", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--device-timeout-s",
        type=float,
        default=installation.DEVICE_TIMEOUT_S,
        help="seconds after which devices that do not answer are reported as stuck",
    )
    flags = arguments.parse_flags(parser, argv)
    found = report(device_timeout_s=flags.device_timeout_s)
    print(json.dumps(found, indent=2) if flags.json else text(found))
    return 0 if found["ok"] else 1


def report(device_timeout_s: float = installation.DEVICE_TIMEOUT_S) -> dict[str, Any]:
    """Everything doctor knows, as plain JSON values.

    Returns:
      `version`, `host`, `packages`, `devices`, `extras`, `storage`, and
      `problems` (the core does not work), `advice` (it does, but) and `ok`.
    """
    result = {
        "version": __version__,
        "host": installation.host(),
        "packages": installation.packages(),
        "devices": installation.devices(device_timeout_s),
        "extras": installation.extras(),
        "storage": installation.storage(),
    }
    result["problems"] = _problems(result)
    result["advice"] = _advice(result)
    result["ok"] = not result["problems"]
    return result


def text(found: dict[str, Any]) -> str:
    """The report for people."""
    machine, place = found["host"], found["storage"]
    lines = [
        f"farsighted-jax {found['version']}, Python {machine['python']}, {machine['os']}",
        f"{machine['cpu_cores']} CPU cores, {machine['memory_gb']} GB memory, "
        f"{place['cwd_free_gb']} GB free in {place['cwd']}",
        f"cache folder: {place['cache']}" + (f" ({place['cache_error']})" if place["cache_error"] else ""),
        "",
        "packages",
    ]
    for entry in found["packages"]:
        mark = "ok " if entry["ok"] else "BAD"
        lines.append(f"  {mark} {entry['name']:<24} {entry['version'] or 'absent':<12} {entry['bounds']}")
    seen = [f"{entry['platform']} ({entry['kind']})" for entry in found["devices"]["found"]]
    lines += ["", f"devices: {', '.join(seen) or 'none'}"]
    lines += ["", "optional parts"]
    for entry in found["extras"]:
        lacks = f"lacks {', '.join(entry['missing'])}; run: {entry['command']}"
        lines.append(f"  {entry['name']:<8} {lacks if entry['missing'] else 'installed'}")
    lines += [""] + [f"note: {line}" for line in found["advice"]]
    lines += [f"PROBLEM: {line}" for line in found["problems"]]
    lines.append("The core works." if found["ok"] else "The core does not work.")
    return "\n".join(lines)


def _problems(result):
    lines = []
    if not result["packages"]:
        lines.append(
            f"{installation.DISTRIBUTION} is not installed as a package; run pip install -e . in its checkout"
        )
    for entry in result["packages"]:
        if not entry["ok"]:
            wanted = f"{entry['name']}{entry['bounds']}"
            lines.append(f"{entry['name']} is {entry['version'] or 'absent'}; run: pip install '{wanted}'")
    for module, error in result["devices"]["import_errors"].items():
        lines.append(f"importing {module} fails: {error}")
    if result["devices"]["error"]:
        lines.append(f"jax devices: {result['devices']['error']}")
    if result["storage"]["cache_error"]:
        lines.append(
            f"the cache folder cannot be written ({result['storage']['cache_error']}); "
            "set FARSIGHTED_CACHE to a folder that can"
        )
    return lines


def _advice(result):
    lines = []
    platforms = {entry["platform"] for entry in result["devices"]["found"]}
    forced = os.environ.get("JAX_PLATFORMS", "")
    for hardware in result["devices"]["accelerators"]:
        if platforms == {"cpu"} and forced:
            lines.append(f"{hardware} is present but JAX_PLATFORMS={forced} keeps jax from using it")
        elif platforms == {"cpu"}:
            extra = "tpu" if hardware == "TPU" else "cuda13"
            lines.append(
                f"{hardware} is present but this jax is CPU-only; run: {installation.pip_command(extra)}"
            )
    if result["storage"]["cwd_free_gb"] < LITTLE_DISK_GB:
        lines.append(f"only {result['storage']['cwd_free_gb']} GB free in {result['storage']['cwd']}")
    return lines
