"""A new run that starts from another run's weights: all of them, or those that both have."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import jax

from farsighted_jax.checkpoint import restore
from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.train import state as train_state
from farsighted_jax.train.state import TrainState

# Shapes with shardings by name of the network -> its values, placed like them.
LoadPretrained = Callable[[Mapping[str, Any]], Mapping[str, Any]]


def warm_started_state(
    source: Path,
    initialize: Callable[[jax.Array], TrainState],
    abstract: TrainState,
    *,
    seed: int,
    partial: bool = False,
    load_pretrained: LoadPretrained | None = None,
    report: Callable[[str], None] = print,
) -> TrainState:
    """A fresh state with the weights of another run.

    Args:
      source: that run's folder.
      initialize: key -> fresh state.
      abstract: its shapes and shardings.
      seed: of what stays fresh.
      partial: whether only the parameters that both runs have are taken, by path;
        the model state stays fresh. Otherwise both must be those of one model.
      load_pretrained: gives the pretrained networks that `source` lacks.
      report: gets lines that say where the state came from, and what is fresh or left over.

    Raises:
      StructureError: the other run is of another model; if `partial`, a parameter of the
        same path has another shape, or no path is the same.
      NoCheckpointError, CorruptCheckpointError: see `checkpoint.restore`.
    """
    step, weights = restore.read_weights(source, sharding=abstract.step.sharding)
    _take_over_pretrained(weights["params"], abstract, load_pretrained, report)
    report(f"warm start from step {step} in {source}")
    fresh = train_state.create(initialize, abstract, seed)
    if partial:
        own = tree.merged(fresh.params, fresh.frozen)
        weights = {
            "params": _filled(weights["params"], own, source, report),
            "model_state": fresh.model_state,
        }
    return _with_weights(fresh, abstract, weights, source)


def loaded_pretrained(
    wanted: Mapping[str, Any], load: LoadPretrained | None, report: Callable[[str], None]
) -> dict[str, Any]:
    """Pretrained networks by name, on the mesh; {} if none are wanted.

    Raises:
      ValueError: some are wanted, and nothing loads them.
      StructureError: what was loaded has other shapes.
    """
    if not wanted:
        return {}
    if load is None:
        raise ValueError(
            f"the task has pretrained networks {sorted(wanted)}, but no loader of them was given"
        )
    report(f"loading pretrained {', '.join(sorted(wanted))}")
    values = dict(load(wanted))
    lines = tree.structure_difference(wanted, values)
    if lines:
        raise restore.StructureError("pretrained networks of other shapes:\n  " + "\n  ".join(lines))
    return values


def _take_over_pretrained(params, abstract, load, report):
    """Keeps those of another run's pretrained networks that this one has, and loads those it lacks."""
    wanted, found = abstract.frozen.get(PRETRAINED, {}), params.pop(PRETRAINED, {})
    kept = {name: network for name, network in found.items() if name in wanted}
    absent = {name: network for name, network in wanted.items() if name not in found}
    if wanted:
        params[PRETRAINED] = kept | loaded_pretrained(absent, load, report)


def _filled(found, own, source, report):
    """The other run's parameters where this model has them, the fresh ones elsewhere."""
    found, own = dict(found), dict(own)
    networks = {PRETRAINED: found.pop(PRETRAINED)} if PRETRAINED in found else {}
    found, own = tree.flat_paths(found), tree.flat_paths(own)
    shared = own.keys() & found.keys()
    lines = tree.structure_difference(
        {path: own[path] for path in shared}, {path: found[path] for path in shared}
    )
    if lines:
        raise restore.StructureError(f"{source}: parameters of other shapes:\n  " + "\n  ".join(lines))
    if not shared:
        raise restore.StructureError(
            f"{source}: none of its parameters {_branches(found, own)} is one of {_branches(own, found)}; "
            "expected a run of the same kind of model"
        )
    for kind, some, others in (("fresh", own, found), ("left over", found, own)):
        if names := _branches(some.keys() - others.keys(), others):
            report(f"{kind}: {', '.join(names)}")
    return tree.nested(own | {path: found[path] for path in shared}) | networks


def _branches(paths: Collection[str], others: Collection[str]) -> list[str]:
    """The paths, shortened to branches that hold none of the others."""
    taken = {path[:end] for path in others for end, letter in enumerate(path) if letter == "/"}

    def branch(path):
        ends = [end for end, letter in enumerate(path) if letter == "/"]
        return next((path[:end] for end in ends if path[:end] not in taken), path)

    return sorted({branch(path) for path in paths})


def _with_weights(fresh, abstract, weights, source):
    wanted = {"params": tree.merged(abstract.params, abstract.frozen), "model_state": abstract.model_state}
    lines = tree.structure_difference(wanted, weights)
    if lines:
        raise restore.StructureError(f"{source}: checkpoint of another model:\n  " + "\n  ".join(lines))
    flat = tree.flat_paths(weights["params"])

    def placed(values, targets):
        return jax.tree.map(lambda value, target: jax.device_put(value, target.sharding), values, targets)

    params, frozen = (
        tree.map_with_path(lambda path, target: jax.device_put(flat[path], target.sharding), targets)
        for targets in (abstract.params, abstract.frozen)
    )
    return fresh.replace(
        params=params,
        frozen=frozen,
        model_state=placed(weights["model_state"], abstract.model_state),
        ema=jax.tree.map(lambda leaf: leaf.copy(), params) if abstract.ema else {},
    )
