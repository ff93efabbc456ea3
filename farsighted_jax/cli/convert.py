"""`farsighted convert`: pretrained weights of other implementations as ours, verified and named."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted convert", description=__doc__)
    parser.add_argument("--model", help="e.g. dinov2-vitb14; --list prints all")
    parser.add_argument("--list", action="store_true", help="print the models and where their weights are")
    parser.add_argument(
        "--source", help="safetensors file, its folder, or owner/name on the hub (default: see --list)"
    )
    parser.add_argument("--file", help="file in the repository (default: see --list)")
    parser.add_argument("--revision", default="", help="branch, tag or commit of the repository")
    parser.add_argument("--sha256", default="", help="refuse weights with another SHA-256")
    parser.add_argument(
        "--tokenizer", help="tokenizer.json of a text model (default: the one beside its weights)"
    )
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--out", help="folder to write (default: in the cache, where models look by name)")
    flags = arguments.parse_flags(parser, argv)
    if flags.list:
        print(listing())
        return 0
    if not flags.model:
        arguments.fail(parser, "--model is required")
    print(json.dumps(run(flags), indent=2))
    return 0


def run(flags: argparse.Namespace) -> dict[str, str]:
    """Converts; returns where the folder is and what is in it."""
    from farsighted_jax.pretrained import folder, source
    from farsighted_jax.pretrained.models import MODELS, model_named

    entry = model_named(flags.model, MODELS)
    place = flags.source or entry.repository
    if not place:
        raise source.SourceError(f"{flags.model} is in no repository that we know of: give --source FILE")
    found = source.located(place, revision=flags.revision, sha256=flags.sha256, file=flags.file or entry.file)
    out = Path(flags.out) if flags.out else folder.default_folder(flags.model)
    tokenizer, absence = tokenizer_of(entry, place, flags)
    about = folder.convert(flags.model, found, out, dtype=flags.dtype, tokenizer=tokenizer, models=MODELS)
    if absence and "tokenizer_sha256" not in about:
        about = {**about, "tokenizer": absence}
    return {"folder": str(out), **about}


def tokenizer_of(entry, place: str, flags: argparse.Namespace) -> tuple[Path | None, str]:
    """The tokenizer's file, or None and, for a model of texts, why there is none and what to do."""
    from farsighted_jax.pretrained import source

    if flags.tokenizer:
        if not Path(flags.tokenizer).is_file():
            raise source.SourceError(f"--tokenizer {flags.tokenizer}: no such file")
        return Path(flags.tokenizer), ""
    if not entry.tokenizer:
        return None, ""
    try:
        found = source.companion(
            place, entry.tokenizer, revision=flags.revision, repository=entry.tokenizer_repository
        )
        reason = f"no {entry.tokenizer} beside the weights"
    except source.SourceError as error:
        # The weights are here and may be all that is wanted.
        found, reason = None, str(error)
    again = f"{reason}; to have it in the folder, remove that and convert again with --tokenizer FILE"
    return found, "" if found else again


def listing() -> str:
    """A line a model: name, parameters, where its weights are published."""
    from farsighted_jax.core import tree
    from farsighted_jax.pretrained.models import MODELS

    rows = [
        (name, f"{tree.num_elements(entry.abstract_params()) / 1e6:.1f} M", entry.repository, entry.file)
        for name, entry in MODELS.items()
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    return "\n".join(
        f"{name:<{widths[0]}}  {size:>{widths[1]}}  {repository:<{widths[2]}}  {file}"
        for name, size, repository, file in rows
    )
