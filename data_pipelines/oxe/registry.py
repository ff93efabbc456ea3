"""Specifications of known datasets, by RLDS name."""

from __future__ import annotations

import difflib

from data_pipelines.errors import DatasetError
from data_pipelines.oxe.bridge import BRIDGE_DATASET
from farsighted_jax.core.spec import DatasetSpec

SPECS: dict[str, DatasetSpec] = {spec.name: spec for spec in (BRIDGE_DATASET,)}


def spec_for(name: str) -> DatasetSpec:
    """The specification of a dataset.

    Raises:
      DatasetError: the name is not registered; the message names the nearest and says how to add one.
    """
    if name in SPECS:
        return SPECS[name]
    near = difflib.get_close_matches(name, SPECS, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DatasetError(
        f"dataset {name!r} has no specification{hint}. Known: {sorted(SPECS)}. Write its DatasetSpec as "
        f"dataset_spec.json beside its dataset_info.json, or add a block to data_pipelines/oxe/registry.py"
    )
