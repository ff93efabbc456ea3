"""The pretrained networks of a task: whether their weights are at hand, and their values on a mesh."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from farsighted_jax.checkpoint import manifest
from farsighted_jax.pretrained import folder
from farsighted_jax.pretrained.entry import PretrainedModel
from farsighted_jax.pretrained.models import MODELS


def check_present(names: Iterable[str], models: Mapping[str, PretrainedModel] = MODELS) -> None:
    """Looks for the folder of each network; touches no device and reads no weights.

    Args:
      names: in the table.
      models: the table.

    Raises:
      PretrainedFolderError: lists every network whose weights are absent, where
        they were looked for, and the command that gets them.
    """
    places = {name: folder.default_folder(name) for name in names}
    lines = [
        f"{name}: {folder.absence(place, name, models)}"
        for name, place in places.items()
        if not (place / manifest.NAME).is_file()
    ]
    if lines:
        raise folder.PretrainedFolderError(
            "the configuration has pretrained networks whose weights are not here:\n  " + "\n  ".join(lines)
        )


def load_placed(
    wanted: Mapping[str, Any], models: Mapping[str, PretrainedModel] = MODELS
) -> dict[str, dict[str, Any]]:
    """Reads networks from the folders that `farsighted convert` writes by default.

    Args:
      wanted: name in the table -> tree of shapes with shardings on one mesh;
        the weights take their dtype and their places.
      models: the table.

    Returns:
      name -> parameters.

    Raises:
      PretrainedFolderError, CorruptCheckpointError, StructureError: see `folder.load`.
    """
    return {name: _loaded(name, shapes, models) for name, shapes in wanted.items()}


def _loaded(name, shapes, models):
    first = jax.tree.leaves(shapes)[0]
    # Every process reads all of it, and keeps what is its own.
    everywhere = NamedSharding(first.sharding.mesh, PartitionSpec())
    found = folder.load(
        folder.default_folder(name), model=name, dtype=first.dtype, sharding=everywhere, models=models
    )
    return jax.tree.map(lambda leaf, place: jax.device_put(leaf, place.sharding), found.params, shapes)
