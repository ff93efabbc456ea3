"""A folder of datasets that differ in all they can: five robots, Bridge, LeRobot and films."""

from __future__ import annotations

import dataclasses
import json

from lerobot_writer import frame, write_film, write_lerobot
from rlds_writer import tiny_spec, write_rlds
from source_tree import ROOT

from farsighted_jax.core.spec import to_dict

# Name -> width of action and of state, rate, and what else it has.
ROBOTS = {
    "arm7": {"width": 7, "state_width": 5, "hz": 5.0, "depth": "png", "wrist": True},
    "arm4": {"width": 4, "state_width": 2, "hz": 10.0},
    "two_arms": {"width": 14, "state_width": 14, "hz": 15.0, "wrist": True},
    "base": {"width": 2, "state_width": 3, "hz": 20.0, "depth": "tensor"},
    "silent": {"width": 9, "state_width": 1, "hz": 30.0},
}
BRIDGE = "bridge_dataset"
WEIGHTS = {
    "arm7": 0.2, "arm4": 0.15, "two_arms": 0.1, "base": 0.1, "silent": 0.05, BRIDGE: 0.2, "lerobot": 0.15,
    "films": 0.05,
}  # fmt: skip
MIXTURE = ",".join(f"{name}:{weight}" for name, weight in WEIGHTS.items())


def write_everything(root, bridge="generated"):
    """Writes all of `WEIGHTS` below `root`; Bridge is "generated" in its shape, or "real" where it is there.

    Returns:
      `root`, or None where real data were asked for and are absent.
    """
    real = ROOT.parent / "shared" / "data" / BRIDGE
    if bridge == "real":
        if not real.is_dir():
            return None
        (root / BRIDGE).symlink_to(real)
    else:
        write_rlds(root, BRIDGE, lengths={"train": (10,) * 4}, size=(16, 16), state_width=7, hz=5.0)
    for name, options in ROBOTS.items():
        hz = options["hz"]
        write_rlds(root, name, lengths={"train": (int(hz * 1.2),) * 3}, shards=1, size=(12, 16), **options)
    spec = dataclasses.replace(tiny_spec("silent", width=9, state_width=1, hz=30.0), language_key="")
    place = root / "silent" / "1.0.0" / "dataset_spec.json"
    place.write_text(json.dumps(to_dict(spec)))
    write_lerobot(root, "v3.0", "lerobot", lengths=(12, 9, 15))
    for number in range(2):
        film = root / "films" / f"{number}.mp4"
        write_film(film, [frame(number, step) for step in range(14)], fps=10)
        film.with_suffix(".txt").write_text(f"film {number}")
    return root
