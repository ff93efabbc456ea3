"""Named mixtures: name -> ((dataset, weight), ...).

Weights are shares of the samples, not of the episodes.
"""

from __future__ import annotations

MIXTURES: dict[str, tuple[tuple[str, float], ...]] = {
    "bridge": (("bridge_dataset", 1.0),),
}
