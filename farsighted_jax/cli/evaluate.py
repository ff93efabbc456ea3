"""`farsighted evaluate`: held-out figures of a run, beside their baselines, as JSON and pictures."""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from farsighted_jax.cli import arguments

SHEET_ROWS = 8


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted evaluate", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="run folder")
    parser.add_argument("--split", default="val", help='e.g. "val" or "train[90%%:]" (default: val)')
    parser.add_argument("--out", help="JSON file to write (default: CHECKPOINT/eval.json)")
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    parser.add_argument("--data-dir", help="folder of datasets, where it is not the run's own")
    flags = arguments.parse_flags(parser, argv)
    folder = Path(flags.checkpoint)
    out = Path(flags.out or folder / "eval.json")
    result = evaluate_run(folder, split=flags.split, step=flags.step, data_dir=flags.data_dir)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(summary(result))
    print(f"metrics: {out}\nfigures: {folder / 'figures'}")
    return 0


def evaluate_run(
    folder: Path,
    *,
    split: str = "val",
    step: int | None = None,
    data_dir: str | None = None,
) -> dict[str, Any]:
    """Evaluates a run on a split and draws its figures.

    Args:
      folder: run folder; figures go to its "figures".
      split: of every dataset of the run's mixture.
      step: training step, the newest by default.
      data_dir: in place of the run's own `data.dir`.

    Returns:
      evaluator -> metrics, and "run": step, split, number of windows.
    """
    from farsighted_jax.cli.run import read_run, stream_for
    from farsighted_jax.evaluators.registry import evaluate

    run = read_run(folder, step)
    place = {"dir": data_dir or run.config.data.dir, "depth": _depth_mode(run)}
    batch_size = run.config.eval.batch_size
    scored = stream_for(
        run.config, batch_size=batch_size, train=False, split=split, statistics=run.statistics, **place
    )
    fitted = stream_for(run.config, batch_size=batch_size, train=False, statistics=run.statistics, **place)
    functions = latent_action_functions(run)
    result = evaluate(
        functions,
        scored.epoch(),
        run.config.eval.evaluators,
        seed=run.config.seed,
        datasets=tuple(scored.specs.values()),
        fit_batches=itertools.islice(_shuffled_batches(fitted), run.config.eval.fit_batches),
        true_motion=_true_motion(place["dir"], scored.names, split),
        fit_true_motion=_true_motion(place["dir"], scored.names, run.config.data.split),
    )
    result["run"] = {
        "step": run.step,
        "split": split,
        "windows": scored.num_windows,
        "datasets": list(scored.names),
    }
    _draw(folder / "figures", functions, scored, result)
    return result


def latent_action_functions(run):
    """The run's model as the functions that evaluators take, compiled at their first call."""
    import jax
    import numpy as np

    from farsighted_jax.evaluators.base import LatentActionFunctions

    task = run.task
    encode = jax.jit(task.encode)
    decode = jax.jit(task.decode)
    loss = jax.jit(
        lambda params, state, batch, key: task.loss(params, state, batch, key, task.denominators(batch))
    )

    def needed(batch):
        return {name: batch[name] for name in task.fields}

    def metrics(batch):
        rows = {**batch, "row": np.arange(len(batch["rgb"]), dtype=np.int32)}
        return loss(run.params, run.model_state, rows, jax.random.key(0))[1][0]

    return LatentActionFunctions(
        encode=lambda batch: encode(run.params, run.model_state, needed(batch)),
        decode=lambda batch, quantized: decode(run.params, needed(batch), quantized),
        codebook_size=task.quantizer.codebook_size,
        num_slots=task.model.num_slots,
        metrics=metrics,
    )


def summary(result: dict[str, Any]) -> str:
    """The figures that matter most, a line a horizon."""
    lines = [
        f"step {result['run']['step']}, {result['run']['windows']} windows of {result['run']['split']!r}"
    ]
    reconstruction = result.get("reconstruction", {})
    for horizon, psnr in reconstruction.get("psnr", {}).items():
        copy, shuffled = (reconstruction[f"psnr_{name}"][horizon] for name in ("copy", "shuffled"))
        lines.append(
            f"  {horizon} s: PSNR {_shown(psnr)} dB, copy frame 0 {_shown(copy)}, "
            f"shuffled codes {_shown(shuffled)}"
        )
    return "\n".join(lines)


def _shown(value):
    return "none" if value is None else f"{value:.2f}"


def _true_motion(directory, names, split) -> Callable[[dict], Any] | None:
    """The true displacement of the actor where the data are procedural scenes alone."""
    from data_pipelines.builders import synthetic

    folder = Path(directory) / names[0] / synthetic.VERSION
    if len(names) > 1 or split not in ("train", "val") or not (folder / synthetic.RECIPE).is_file():
        return None
    return synthetic.true_motion(folder, split)


def _depth_mode(run):
    """Evaluation reads depth exactly where training did, so that the batches look alike."""
    return (
        "off" if all(entry["depth"] is None for entry in run.statistics.values()) else run.config.data.depth
    )


def _shuffled_batches(stream):
    """Training windows in training order, which is shuffled: a fair sample where not all are taken."""
    return (stream.batch(step) for step in range(max(stream.num_windows // stream.batch_size, 1)))


def _draw(folder, functions, stream, result):
    from farsighted_jax.evaluators.outputs import model_outputs
    from farsighted_jax.viz.codes import code_usage
    from farsighted_jax.viz.depth import depth_sheet
    from farsighted_jax.viz.frames import prediction_sheet

    batch = spread_rows(stream, SHEET_ROWS)
    outputs = model_outputs(functions, batch)
    prediction_sheet(folder / "predictions.png", batch, outputs, rows=SHEET_ROWS)
    if "depth" in batch:
        depth_sheet(folder / "depth.png", batch, outputs, rows=SHEET_ROWS)
    try:
        code_usage(folder / "codes.png", result["codebook"])
    except ImportError as error:
        print(f"no code usage drawn: {error}")


def spread_rows(stream, rows: int):
    """Windows spread evenly over a split, as one batch of the stream's batch size."""
    import numpy as np

    batches = list(stream.epoch())
    whole = {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}
    complete = np.flatnonzero(whole["frame_valid"].all(axis=1))
    candidates = complete if len(complete) else np.flatnonzero(whole["frame_valid"].any(axis=1))
    chosen = candidates[np.linspace(0, len(candidates) - 1, rows).astype(int)]
    padded = np.resize(chosen, stream.batch_size)
    return {name: array[padded] for name, array in whole.items()}
