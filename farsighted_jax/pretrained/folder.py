"""A folder of converted weights: our parameters, their digests, and where they came from.

It has the layout of a run's `frozen/` folder: `params/` as Orbax writes it and
`manifest.json` with the SHA-256 of every file and the digest of every array.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import orbax.checkpoint as ocp
from jax.sharding import Sharding, SingleDeviceSharding

from data_pipelines.cache import pretrained_folder
from data_pipelines.language.piece_tokenizer import FILE as TOKENIZER
from farsighted_jax.checkpoint import digest, manifest, restore
from farsighted_jax.pretrained.entry import PretrainedModel, check_config, converted_params
from farsighted_jax.pretrained.models import MODELS, model_named
from farsighted_jax.pretrained.safetensors_file import read
from farsighted_jax.pretrained.source import Source

ITEM = "params"
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


class PretrainedFolderError(ValueError):
    """A folder of weights is absent, is another model's, or is in the way; the message has the way out."""


@dataclasses.dataclass(frozen=True)
class Pretrained:
    """Weights with their origin.

    Attributes:
      params: nested dicts of arrays.
      about: "model", "layout", "source", "sha256" (of the source's files), "dtype"
        and "digest" (of all parameters); "tokenizer_sha256" where a tokenizer came with them.
    """

    params: dict[str, Any]
    about: dict[str, str]


def default_folder(model: str) -> Path:
    """Where `farsighted convert` writes and `load` looks, unless told otherwise."""
    return pretrained_folder(model)


def convert(
    model: str,
    source: Source,
    out: Path,
    *,
    dtype: str = "float32",
    tokenizer: Path | None = None,
    models: Mapping = MODELS,
) -> dict[str, str]:
    """Reads weights, renames them by the model's table and writes a folder.

    Args:
      model: name in the table.
      source: see `source.located`.
      out: folder to write; one that holds the same weights already is left alone.
      dtype: "float32" or "bfloat16".
      tokenizer: file that is copied into the folder, as `tokenizer.json`.
      models: the table.

    Returns:
      `Pretrained.about`.

    Raises:
      PretrainedFolderError: `out` holds something else.
      ConversionError: the weights do not fit, or are those of another network;
        lists every name, shape or key.
    """
    if dtype not in DTYPES:
        raise PretrainedFolderError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    entry = model_named(model, models)
    check_config(entry, source.path)
    params, layout = converted_params(entry, read(source.path), DTYPES[dtype])
    digests = digest.content_digests(params)
    about = {
        "model": model,
        "layout": layout,
        "source": source.origin,
        "sha256": source.sha256,
        "dtype": dtype,
        "digest": digest.tree_digest(digests),
    }
    if tokenizer is not None:
        about["tokenizer_sha256"] = manifest.file_sha256(tokenizer)
    if out.exists() and any(out.iterdir() if out.is_dir() else [out]):
        there = _about(out)
        # A folder that has a tokenizer is not poorer for weights that came without one.
        same = {"model", "digest", "tokenizer_sha256"} & about.keys()
        if all(there.get(key) == about[key] for key in same):
            return there
        raise PretrainedFolderError(f"{out}: there already, with other content; remove it or choose another")
    write(out, params, digests, about, {TOKENIZER: tokenizer} if tokenizer else {})
    return about


def write(
    out: Path, params, digests: Mapping[str, str], about: Mapping[str, str], files: Mapping[str, Path] = {}
) -> None:
    """Writes a folder that is either complete or not there, with copies of `files` (name -> file)."""
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(partial.absolute() / ITEM, params)
    for name, path in files.items():
        shutil.copyfile(path, partial / name)
    manifest.write(partial, {"digests": {ITEM: dict(digests)}, "pretrained": dict(about)})
    if out.is_dir():
        out.rmdir()
    partial.rename(out)


def load(
    place: str | Path,
    *,
    model: str = "",
    dtype: Any = None,
    sharding: Sharding | None = None,
    models: Mapping[str, PretrainedModel] = MODELS,
) -> Pretrained:
    """Reads converted weights, verified: files, structure, content.

    Args:
      place: a folder that `convert` wrote, or a name in the table for the
        folder that it writes by default.
      model: which model they must be of; "" takes what the folder says.
      dtype: of the result; as stored by default.
      sharding: of every array; the first device by default.
      models: the table.

    Raises:
      PretrainedFolderError: no such folder (the message has the command that
        makes it), or another model's.
      CorruptCheckpointError: names the file or array that differs.
      StructureError: the folder is of another version of the model.
    """
    folder = Path(place)
    if not folder.exists() and str(place) in models:
        model, folder = model or str(place), default_folder(str(place))
    if not (folder / manifest.NAME).is_file():
        raise PretrainedFolderError(absence(folder, model, models))
    body = manifest.read(folder)
    about = body.get("pretrained") or {}
    name = about.get("model", "nothing that was converted")
    if name not in models or (model and name != model):
        raise PretrainedFolderError(f"{folder}: holds {name}, expected {model or 'one of ' + str([*models])}")
    sharding = sharding or SingleDeviceSharding(jax.devices()[0])
    expected = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        models[name].abstract_params(DTYPES[about["dtype"]]),
    )
    params = restore.restore_items(folder, {ITEM: expected}, body)[ITEM]
    if dtype is not None:
        params = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf.astype(dtype), tree))(params)
    return Pretrained(params, about)


def absence(folder: Path, model: str, models: Mapping[str, PretrainedModel] = MODELS) -> str:
    """Says that a folder has no weights, and the command that puts them there."""
    known = models.get(model)
    source = known.repository if known and known.repository else "FILE"
    command = f"farsighted convert --model {model or 'MODEL'} --source {source} --out {folder}"
    return f"{folder}: no converted weights there; run: {command}"


def _about(folder) -> dict[str, str]:
    if not (folder / manifest.NAME).is_file():
        return {}
    return manifest.read(folder).get("pretrained") or {}
