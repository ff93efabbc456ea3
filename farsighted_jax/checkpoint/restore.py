"""Reading checkpoints: files verified, then structure compared, then contents verified.

The order of a run's start is resume (`restore_newest`), else warm start from
another run (`read_weights`), else scratch. Arrays are always read into shapes
with shardings, so that another number of devices gives the same values.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from jax.sharding import Sharding, SingleDeviceSharding

from farsighted_jax.checkpoint import digest, manifest, release
from farsighted_jax.checkpoint.manager import CHECKPOINTS, FROZEN
from farsighted_jax.core import hosts, tree


class StructureError(ValueError):
    """A checkpoint is of another model; the message lists every path that differs."""


class NoCheckpointError(FileNotFoundError):
    """A folder has no complete checkpoint."""


def restore_newest(
    workdir: Path, expected: Mapping[str, Any], report: Callable[[str], None] = print
) -> tuple[int, dict[str, Any], dict[str, Any]] | None:
    """Reads the newest intact step of a run, falling back step by step from corrupt ones.

    Args:
      workdir: the run folder.
      expected: item -> tree of ShapeDtypeStruct with shardings. The item
        "frozen", if given, is read from the run's own frozen folder.
      report: gets one line for each corrupt step.

    Returns:
      (step, item -> tree, manifest), or None where the run has no complete step.

    Raises:
      StructureError: the checkpoint is of another model.
      CorruptCheckpointError: no step is intact, or the frozen parameters are not.
    """
    steps = hosts.from_first(
        lambda: manifest.complete_steps(workdir / CHECKPOINTS), "looking for checkpoints"
    )
    if not steps:
        return None
    frozen, frozen_digest = _restore_frozen(workdir, expected) if expected.get(FROZEN) else ({}, "")
    errors = []
    for step in reversed(steps):
        folder = workdir / CHECKPOINTS / str(step)
        try:
            body = _shared_manifest(folder)
            manifest.verify_files(folder, body, manifest.items(body) - set(body["digests"]), shared=True)
            # An item that only the checkpoint has is a difference too.
            # Sorted, since all processes have to read them in one order.
            names = sorted({*expected, *body["digests"]} - {FROZEN})
            items = {name: expected.get(name, {}) for name in names}
            restored = restore_items(folder, items, body, shared=True)
            if body["frozen"] != frozen_digest:
                raise manifest.CorruptCheckpointError(
                    f"{folder}: belongs to frozen parameters with digest {body['frozen'] or 'none'}, "
                    f"found {frozen_digest or 'none'} in {workdir / FROZEN}"
                )
            return step, {**restored, FROZEN: frozen}, body
        except manifest.CorruptCheckpointError as error:
            errors.append(error)
            report(f"step {step} is corrupt, falling back to the step before it: {error}")
    raise manifest.CorruptCheckpointError(f"{workdir}: no intact step is left; the newest: {errors[0]}")


def restore_items(
    folder: Path,
    expected: Mapping[str, Any],
    body: Mapping[str, Any] | None = None,
    *,
    shared: bool = False,
) -> dict[str, Any]:
    """Reads items of one complete step (or of the frozen folder).

    Args:
      folder: `W/checkpoints/<step>`.
      expected: item -> tree of ShapeDtypeStruct with shardings; only these items' files are read.
      body: the manifest, if it was read before.
      shared: see `manifest.verify_files`.

    Raises:
      CorruptCheckpointError: names the file, or the array whose content digest differs.
      StructureError: lists every path of every item that differs; nothing was loaded.
    """
    body = manifest.read(folder) if body is None else body
    manifest.verify_files(folder, body, expected, shared=shared)
    found = {name: _structure(folder, body, name) for name in expected}
    lines = tree.structure_difference(expected, found)
    if lines:
        raise StructureError(f"{folder}: checkpoint of another model:\n  " + "\n  ".join(lines))
    return {name: _load(folder, body, name, item) for name, item in expected.items()}


def read_weights(
    workdir: Path,
    *,
    step: int | None = None,
    items: tuple[str, ...] = ("params", "model_state"),
    average: bool = False,
    sharding: Sharding | None = None,
) -> tuple[int, dict[str, Any]]:
    """Reads weights alone, as they stand in the checkpoint, for inference or a warm start.

    Args:
      workdir: a run folder, or a release, which has one step and its parameters averaged already.
      step: which one; the newest complete step by default.
      items: which of "params" and "model_state"; "params" includes the frozen ones.
      average: take the averaged parameters where the run kept them.
      sharding: of every array; this process's first device by default.

    Returns:
      (step, item -> tree of dicts); an item that the model does not have is {}.

    Raises:
      NoCheckpointError: no complete step, or not that one; names those that exist.
      CorruptCheckpointError: names the file.
    """
    released = release.found(workdir)
    folders = _step_folders(workdir) if released is None else {released.step: workdir}
    if not folders or (step is not None and step not in folders):
        wanted = "any step" if step is None else f"step {step}"
        raise NoCheckpointError(
            f"{workdir}: no complete checkpoint of {wanted}; complete steps: {list(folders)}"
        )
    step = max(folders) if step is None else step
    sharding = sharding or SingleDeviceSharding(jax.local_devices()[0])
    folder = folders[step]
    body = manifest.read(folder)
    weights = {}
    for name in items:
        stored = "ema" if name == "params" and average and "ema" in body["digests"] else name
        weights[name] = _read_item(folder, body, stored, sharding)
    if "params" in weights and body.get("frozen"):
        frozen = _read_item(workdir / FROZEN, manifest.read(workdir / FROZEN), "params", sharding)
        found = digest.tree_digest(digest.content_digests(frozen))
        if found != body["frozen"]:
            raise manifest.CorruptCheckpointError(
                f"{workdir / FROZEN}: digest {found}, but step {step} belongs to {body['frozen']}"
            )
        weights["params"] = tree.merged(weights["params"], frozen)
    return step, weights


def read_document(folder: Path, name: str) -> Any:
    """Reads a verified JSON document ("config", "statistics", "data") of one complete step."""
    manifest.verify_files(folder, manifest.read(folder), [name])
    return json.loads((folder / name / "metadata").read_text(encoding="utf-8"))


def _step_folders(workdir):
    checkpoints = workdir / CHECKPOINTS
    return {step: checkpoints / str(step) for step in manifest.complete_steps(checkpoints)}


def _shared_manifest(folder):
    """The manifest as the first process reads it, or its error, in every process."""

    def read():
        try:
            return manifest.read(folder), ""
        except manifest.CorruptCheckpointError as error:
            return {}, str(error)

    body, problem = hosts.from_first(read, f"reading {folder}")
    if problem:
        raise manifest.CorruptCheckpointError(problem)
    return body


def _restore_frozen(workdir, expected):
    restored = restore_items(workdir / FROZEN, {"params": expected[FROZEN]}, shared=True)["params"]
    return restored, digest.tree_digest(digest.content_digests(restored))


def _read_item(folder, body, name, sharding):
    manifest.verify_files(folder, body, [name])
    abstract = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        _structure(folder, body, name),
    )
    return _load(folder, body, name, abstract)


def _load(folder, body, name, abstract):
    if not jax.tree.leaves(abstract):
        return {}
    path = epath.Path(folder.absolute() / name)
    restored = ocp.StandardCheckpointHandler().restore(path, args=ocp.args.StandardRestore(abstract))
    found, expected = digest.content_digests(restored), body["digests"][name]
    wrong = [
        f"{path}: digest {found[path]}, expected {expected[path]}"
        for path in found
        if found[path] != expected[path]
    ]
    if wrong:
        lines = "\n  ".join(wrong)
        raise manifest.CorruptCheckpointError(f"{folder / name}: restored values differ:\n  {lines}")
    return restored


def _structure(folder, body, name):
    if name not in body["digests"]:
        return {}
    metadata = ocp.StandardCheckpointHandler().metadata(epath.Path(folder.absolute() / name)).tree
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), metadata)
