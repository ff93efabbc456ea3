"""Known datasets, by RLDS name."""

from __future__ import annotations

import difflib

from data_pipelines.errors import DatasetError
from data_pipelines.oxe import arms, austin, bridge, droid, franka, google, others, xarm_ur5
from data_pipelines.oxe.block import Block
from data_pipelines.recipe import Recipe
from farsighted_jax.core.spec import DatasetSpec

_FILES = (bridge, google, austin, franka, droid, xarm_ur5, arms, others)
BLOCKS: dict[str, Block] = {block.name: block for file in _FILES for block in file.BLOCKS}
SPECS: dict[str, DatasetSpec] = {name: block.spec for name, block in BLOCKS.items()}


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
        f"dataset {name!r} has no specification{hint}. Write its DatasetSpec as dataset_spec.json beside its "
        f"dataset_info.json, or add a block to data_pipelines/oxe; `farsighted data registry` prints the "
        f"{len(SPECS)} known ones"
    )


def recipe_for(name: str, version: str) -> Recipe | None:
    """How a registered dataset is read; None where all is just stored.

    Raises:
      DatasetError: that version must not be read.
    """
    block = BLOCKS[name]
    if block.pinned and version not in block.versions:
        raise DatasetError(
            f"dataset {name!r}, version {version}: {block.pinned}; expected one of {list(block.versions)}"
        )
    return block.recipe
