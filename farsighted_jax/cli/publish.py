"""`farsighted publish RUN OUT`: a trained model as one self-contained folder, checked after it is written."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from farsighted_jax.cli import arguments

# Names of the arrays of an example begin with these.
INPUT, OUTPUT = "input/", "output/"

EXAMPLE_CLIPS = 2


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

    The datasets are opened for their specifications and for the example.

    Args:
      folder: run folder.
      out: folder to make.
      step: training step, the newest by default.
      data_dir: in place of the run's own `data.dir`.
      evaluation: JSON file of `farsighted evaluate`; by default that of the run folder, if there is one.

    Raises:
      ReleaseError: `out` exists.
      RunError, NoCheckpointError, CorruptCheckpointError, DatasetError: the run or its data cannot be read.
    """
    from farsighted_jax import __version__
    from farsighted_jax.checkpoint import release
    from farsighted_jax.cli.run import read_run, stream_for

    if out.exists():
        raise release.ReleaseError(f"{out}: there already; remove it or choose another folder")
    measured = _evaluation(folder, evaluation)
    run = read_run(folder, step)
    kind = "lam" if run.config.task == "lam" else "policy"
    data = run.config.data
    stream = stream_for(
        run.config, batch_size=EXAMPLE_CLIPS, train=False, statistics=run.statistics, dir=data_dir or data.dir
    )
    documents = {
        "config.json": _shared_config(run.config),
        "statistics.json": run.statistics,
        "specs.json": [_described(spec) for spec in stream.specs.values()],
        "preprocessing.json": stream.preprocessing.to_dict(),
    }
    return release.write(
        out,
        kind=kind,
        step=run.step,
        version=__version__,
        items={"params": run.params, "model_state": run.model_state},
        documents=documents,
        example=_lam_example(run, stream),
        card=_card(out.name, kind, run, stream, measured),
    )


def _evaluation(folder, file):
    path = Path(file or folder / "eval.json")
    if not (file or path.is_file()):
        return None
    return json.loads(path.read_text(encoding="utf-8"))


def _shared_config(config) -> dict[str, Any]:
    """The configuration without places of this machine; patterns of the optimizer only look like places."""
    from farsighted_jax.checkpoint.release import without_places

    values = config.to_dict()
    return without_places(values) | {"optimizer": values["optimizer"]}


def _described(spec):
    from farsighted_jax.checkpoint.release import without_places
    from farsighted_jax.core.spec import to_dict

    return without_places(to_dict(spec))


def _lam_example(run, stream) -> Mapping[str, np.ndarray]:
    """Clips of the training data and their codes."""
    from farsighted_jax.lam.inference import LatentActions

    batch = next(iter(stream.epoch(readers=1, prefetch=1)))
    inputs = {name: batch[name] for name in run.task.fields if name in batch}
    code_BtZ = LatentActions(run.task, run.params, run.model_state).encode(inputs)["code"]
    named = {f"{INPUT}{name}": array for name, array in inputs.items()}
    return named | {f"{OUTPUT}code": np.asarray(code_BtZ)}


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
