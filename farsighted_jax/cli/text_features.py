"""`farsighted text-features`: vectors of all instructions of a mixture by its frozen text encoder, once.

A run with `data.text_features` reads them in place of running the encoder in every step.
What is there is kept, so that the same line resumes, and another mixture or split adds to
the folder. One process a folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farsighted_jax.cli import arguments

TEXTS_PER_FILE = 4096


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted text-features", description=__doc__)
    parser.add_argument("--out", required=True, help="folder to write to, or to add to")
    parser.add_argument("--split", nargs="+", default=(), help="whole splits (default: all of each dataset)")
    parser.add_argument("--batch-size", type=int, default=64, help="texts encoded at once (default: 64)")
    flags, config = arguments.parse(parser, argv)
    if flags.batch_size < 1:
        arguments.fail(parser, f"--batch-size is {flags.batch_size}, expected >= 1")
    run(config, Path(flags.out), splits=flags.split, batch_size=flags.batch_size)
    return 0


def run(
    config, out: Path, *, splits: Sequence[str] = (), batch_size: int = 64, report=print
) -> dict[str, Any]:
    """Encodes the instructions that a folder does not hold yet.

    Args:
      config: of a policy; its data, `model.text_encoder` and `model.dtype` are read.
      out: folder, see `data_pipelines.text_features`.
      splits: whole splits of each dataset; all by default.
      batch_size: texts encoded at once.
      report: gets lines of progress.

    Returns:
      What the folder says about itself.

    Raises:
      ConfigError: no text encoder whose vectors could be stored, or no tokenizer.
      TextFeatureError: `out` holds other vectors, or a split is a slice.
      PretrainedFolderError, TokenizerError, DatasetError, RecordError: what is read cannot be used.
    """
    from data_pipelines.text_features import TextFeatureWriter, read_about
    from farsighted_jax.pretrained import folder

    instructions = _instructions(config)
    name, dtype = config.model.text_encoder, config.model.dtype
    opened = _opened(config.data, splits)
    loaded = folder.load(folder.default_folder(name), model=name, dtype=dtype)
    encode = _Encode(name, dtype, loaded.params, batch_size)
    identity = {
        "encoder": name,
        "digest": loaded.about["digest"],
        "tokenizer": instructions.tokenizer.digest,
        "length": instructions.length,
        "dtype": dtype,
        "width": encode.width,
    }
    writer = TextFeatureWriter(out, identity)
    for split in opened:
        texts = _texts(split, instructions)
        missing = [key for key in texts if key not in writer.keys]
        for first in range(0, len(missing), TEXTS_PER_FILE):
            writer.write(encode({key: texts[key] for key in missing[first : first + TEXTS_PER_FILE]}))
        writer.add_source(split)
        report(f"{split.name}:{split.split}: {len(texts)} distinct texts, {len(missing)} of them encoded now")
    about = read_about(out)
    report(f"text features: {out}, {about['count']} texts")
    return about


def _instructions(config):
    from data_pipelines.language.instructions import Instructions, tokenizer_for
    from farsighted_jax.core.config import ConfigError, check_choice
    from farsighted_jax.pretrained.models import MODELS

    encoders = [name for name in MODELS if name.startswith("t5-")]
    check_choice("model.text_encoder", config.model.get("text_encoder", ""), encoders)
    if config.data.text_tokenizer in ("", "bytes"):
        raise ConfigError(
            f"configuration key 'data.text_tokenizer' is {config.data.text_tokenizer!r}, but "
            f"'model.text_encoder' is {config.model.text_encoder!r}; expected its tokenizer"
        )
    return Instructions(tokenizer_for(config.data.text_tokenizer), config.data.text_length)


def _opened(data, splits):
    """Every split that is asked for, of every dataset."""
    from data_pipelines.dataset import Place, open_split, split_names
    from data_pipelines.dataset_info import split_range
    from data_pipelines.mixture import parse_mixture
    from data_pipelines.text_features import TextFeatureError

    for split in splits:
        if split_range(split)[1] != ("", ""):
            raise TextFeatureError(f"--split {split!r} is a slice; expected whole splits, such as 'train'")
    return [
        open_split(data.dir, name, split, on_corrupt=data.on_corrupt, cache_dir=data.cache_dir or None)
        for name in parse_mixture(data.mixture, data.dir)
        for split in splits or split_names(Place(data.dir, name))
    ]


def _texts(split, instructions) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Key -> tokens int32[L] and which are real, bool[L], of every way to say it, and of none."""
    from data_pipelines.language.paraphrases import ways_to_say
    from data_pipelines.text_features import text_key

    found = {}
    told = {text for episode in split.episodes() for text in ways_to_say(episode, split.spec)}
    for instruction in {b"", *told}:
        text_L, valid_L = np.zeros(instructions.length, np.int32), np.zeros(instructions.length, bool)
        instructions.write(instruction, text_L, valid_L)
        found[text_key(text_L, valid_L)] = text_L, valid_L
    return dict(sorted(found.items()))


class _Encode:
    """Texts to vectors, by the function that a training step calls."""

    def __init__(self, name, dtype, params, batch_size):
        import jax
        import jax.numpy as jnp

        from farsighted_jax.core.task import PRETRAINED
        from farsighted_jax.policy.networks import FrozenNetworks
        from farsighted_jax.pretrained.models import MODELS

        self.width = MODELS[name].module().width
        self._vectors = jax.jit(FrozenNetworks(text_encoder=name, dtype=jnp.dtype(dtype)).text_vectors)
        self._params, self._batch_size = {PRETRAINED: {name: params}}, batch_size

    def __call__(self, texts: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, np.ndarray]:
        """Key -> float32[number of tokens, E]."""
        rows, found = list(texts.items()), {}
        for first in range(0, len(rows), self._batch_size):
            some = rows[first : first + self._batch_size]
            text_BL, valid_BL = (np.stack([row[part] for _, row in some]) for part in (0, 1))
            # One shape, so that it is compiled once.
            missing = ((0, self._batch_size - len(some)), (0, 0))
            vector_BLE = self._vectors(self._params, np.pad(text_BL, missing), np.pad(valid_BL, missing))
            for (key, (_, valid_L)), vector_LE in zip(some, np.asarray(vector_BLE, np.float32), strict=False):
                found[key] = vector_LE[valid_L]
        return found
