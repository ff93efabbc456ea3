"""`farsighted publish RUN OUT`: a trained model as one self-contained folder, checked after it is written."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farsighted_jax.cli import arguments

BYTES, TOKENIZER, LAM = "bytes", "tokenizer.json", "lam.json"

EXAMPLE_ROWS = 2


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted publish", description=__doc__)
    parser.add_argument("run", metavar="RUN", help="run folder")
    parser.add_argument("out", metavar="OUT", help="folder to write; there must be none")
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    parser.add_argument("--data-dir", help="folder of datasets, where it is not the run's own")
    parser.add_argument("--eval", help="measured results for the model card (default: RUN/eval.json)")
    flags = arguments.parse_flags(parser, argv)
    found = publish(
        Path(flags.run), Path(flags.out), step=flags.step, data_dir=flags.data_dir, evaluation=flags.eval
    )
    print(f"release: {flags.out}\ndigest: {found.digest}")
    return 0


def publish(
    folder: Path,
    out: Path,
    *,
    step: int | None = None,
    data_dir: str | None = None,
    evaluation: str | None = None,
):
    """Writes a run as a release; returns the `checkpoint.release.Release`.

    The datasets are opened for their specifications and for the example. The
    release is read back and its example computed again before it is left there.

    Args:
      folder: run folder.
      out: folder to make.
      step: training step, the newest by default.
      data_dir: in place of the run's own `data.dir`.
      evaluation: JSON file of `farsighted evaluate`; by default that of the run folder, if there is one.

    Raises:
      ReleaseError: `out` exists, or the example does not come out again.
      PretrainedFolderError: the run reads stored vectors of texts, and their encoder is not here.
      RunError, NoCheckpointError, CorruptCheckpointError, DatasetError: the run or its data cannot be read.
    """
    from farsighted_jax import __version__
    from farsighted_jax.checkpoint import release
    from farsighted_jax.cli.run import read_run, stream_for, trained_datasets, with_text_encoder

    if out.exists():
        raise release.ReleaseError(f"{out}: there already; remove it or choose another folder")
    measured = _evaluation(folder, evaluation)
    # A release takes any text, so it runs the encoder whose stored vectors the run may have read.
    run = with_text_encoder(read_run(folder, step), folder)
    kind = "lam" if run.config.task == "lam" else "policy"
    # The statistics of the run, so that the split is opened as it was trained on.
    place = {"dir": data_dir or run.config.data.dir, "codes": "", "image_features": ""}
    place["windows_per_episode"] = 1
    place |= trained_datasets(run.config, folder)
    stream = stream_for(run.config, batch_size=EXAMPLE_ROWS, train=False, statistics=run.statistics, **place)
    example, check = EXAMPLES[kind](run, stream, place["dir"])
    found = release.write(
        out,
        kind=kind,
        step=run.step,
        version=__version__,
        items={"params": run.params, "model_state": run.model_state},
        documents=_documents(run, stream, folder),
        example=example,
        card=_card(out.name, kind, run, stream, measured),
        files=_tokenizer_files(stream.tokenizer),
    )
    try:
        check(found)
    except BaseException:
        shutil.rmtree(out)
        raise
    return found


def _evaluation(folder, file):
    path = Path(file or folder / "eval.json")
    if not (file or path.is_file()):
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def _documents(run, stream, folder) -> dict[str, Any]:
    """File name -> content, without places of this machine."""
    from farsighted_jax.checkpoint.release import without_places
    from farsighted_jax.cli.run import trained_datasets
    from farsighted_jax.core.spec import to_dict

    documents = {
        "config.json": _shared(run.config.to_dict()),
        "statistics.json": run.statistics,
        "specs.json": [without_places(to_dict(spec)) for spec in stream.specs.values()],
        "preprocessing.json": stream.preprocessing.to_dict(),
    }
    if trained_datasets(run.config, folder):
        documents["config.json"]["data"]["mixture"] = ",".join(stream.names)
    if _tokenizer_files(stream.tokenizer):
        documents["config.json"]["data"]["text_tokenizer"] = TOKENIZER
    lam = folder / LAM
    if lam.is_file():
        described = json.loads(lam.read_text(encoding="utf-8"))
        documents[LAM] = described | {"config": _shared(described["config"])}
    return documents


def _shared(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without places; the optimizer's patterns only look like some."""
    from farsighted_jax.checkpoint.release import without_places

    return without_places(config) | {"optimizer": config["optimizer"]}


def _tokenizer_files(tokenizer) -> dict[str, bytes]:
    """The file of a tokenizer that has one."""
    from etils import epath

    if tokenizer is None or tokenizer.name == BYTES:
        return {}
    path = epath.Path(tokenizer.name)
    return {TOKENIZER: (path / TOKENIZER if path.is_dir() else path).read_bytes()}


def _lam_example(run, stream, data_dir):
    """Clips of the training data and their codes, and what computes the codes again."""
    from farsighted_jax.checkpoint.release import ReleaseError
    from farsighted_jax.cli.run import read_run
    from farsighted_jax.lam.inference import LatentActions

    batch = next(iter(stream.epoch(readers=1, prefetch=1)))
    inputs = {name: batch[name] for name in run.task.fields if name in batch}

    def code(model):
        actions = LatentActions(model.task, model.params, model.model_state)
        return np.asarray(actions.encode(inputs)["code"])

    def check(found):
        if (code(read_run(found.folder)) != found.example()["output/code"]).any():
            raise ReleaseError(f"{found.folder}: read back, it gives other codes than the run")

    named = {f"input/{name}": array for name, array in inputs.items()}
    return named | {"output/code": code(run)}, check


def _policy_example(run, stream, data_dir):
    """Observations of the training data and what the policy makes of them, and what does it again."""
    from data_pipelines.dataset import open_split
    from farsighted_jax.serving.example import example_of, recorded_observations
    from farsighted_jax.serving.policy import load, policy_of

    data = run.config.data
    policy = policy_of(
        task=run.task,
        params=run.params,
        config=run.config,
        statistics=run.statistics,
        specs=stream.specs,
        preprocessing=stream.preprocessing,
        tokenizer=stream.tokenizer,
        embodiment=next((name for name, spec in stream.specs.items() if spec.action), stream.names[0]),
    )
    split = open_split(
        data_dir, policy.spec.name, data.split, on_corrupt=data.on_corrupt, cache_dir=data.cache_dir or None
    )
    observations = recorded_observations(split, policy, EXAMPLE_ROWS)
    return example_of(policy, observations), lambda found: load(
        found.folder, embodiment=policy.spec.name, check=True
    )


# Kind -> what makes an example, and a function that computes it again from a release.
EXAMPLES = {"lam": _lam_example, "policy": _policy_example}


def _card(name, kind, run, stream, evaluation):
    from farsighted_jax.cli.model_card import model_card
    from farsighted_jax.core.task import PRETRAINED
    from farsighted_jax.core.tree import num_elements

    frozen = num_elements(run.params.get(PRETRAINED, {}))
    return model_card(
        name,
        kind,
        config=run.config,
        specs=tuple(stream.specs.values()),
        statistics=run.statistics,
        step=run.step,
        num_params={"trained": num_elements(run.params) - frozen, "frozen": frozen},
        evaluation=evaluation,
    )
