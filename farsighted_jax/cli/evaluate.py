"""`farsighted evaluate`: held-out figures of a run, beside their baselines, as JSON and pictures."""

from __future__ import annotations

import argparse
import functools
import itertools
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from farsighted_jax.cli import arguments, evaluation_report, hosts

# For runs from before `eval.gap_multiples` was a key.
DEFAULT_GAP_MULTIPLES = (1, 2, 4, 8)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted evaluate", description=__doc__)
    parser.add_argument("--checkpoint", required=True, help="run folder")
    parser.add_argument("--split", default="val", help='e.g. "val" or "train[90%%:]" (default: val)')
    parser.add_argument("--out", help="JSON file to write (default: CHECKPOINT/eval.json)")
    parser.add_argument("--step", type=int, help="training step (default: the newest)")
    parser.add_argument("--data-dir", help="folder of datasets, where it is not the run's own")
    parser.add_argument(
        "--text-features", help="folder of `farsighted text-features`, where it is not the run's own"
    )
    parser.add_argument(
        "--text-encoder", action="store_true", help="run the text encoder whose stored vectors the run read"
    )
    parser.add_argument("--evaluators", help="names with commas between (default: the run's eval.evaluators)")
    parser.add_argument(
        "--batch-size", type=int, help="rows at once, which the shuffled codes depend on (default: the run's)"
    )
    hosts.add_flags(parser)
    flags = arguments.parse_flags(parser, argv)
    if flags.batch_size is not None:
        arguments.at_least(parser, flags, 1, "batch_size")
    with hosts.session(parser, flags):
        _evaluate(flags)
    return 0


def _evaluate(flags):
    """Runs the command in this process; the first one writes and speaks for all."""
    from farsighted_jax.core import hosts as processes

    processes.check_alike({"options": hosts.own_options(flags)})
    folder = Path(flags.checkpoint)
    out = Path(flags.out or folder / "eval.json")
    names = tuple(filter(None, flags.evaluators.split(","))) if flags.evaluators else None
    result = evaluate_run(
        folder,
        split=flags.split,
        step=flags.step,
        data_dir=flags.data_dir,
        evaluators=names,
        text_features=flags.text_features,
        text_encoder=flags.text_encoder,
        batch_size=flags.batch_size,
    )
    if processes.is_first():
        _write(result, out, folder)
    processes.wait_for_all("evaluation")


def _write(result, out, folder):
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    print(evaluation_report.summary(result))
    print(f"metrics: {out}\nfigures: {folder / 'figures'}")


def evaluate_run(
    folder: Path,
    *,
    split: str = "val",
    step: int | None = None,
    data_dir: str | None = None,
    evaluators: Sequence[str] | None = None,
    text_features: str | None = None,
    text_encoder: bool = False,
    batch_size: int | None = None,
) -> dict[str, Any]:
    """Evaluates a run on a split and draws its figures.

    Args:
      folder: run folder; figures go to its "figures".
      split: of every dataset of the run's mixture.
      step: training step, the newest by default.
      data_dir: in place of the run's own `data.dir`.
      evaluators: names, in place of the run's own `eval.evaluators`.
      text_features: in place of the run's own `data.text_features`.
      text_encoder: run the text encoder in place of reading its stored vectors.
      batch_size: in place of the run's own `eval.batch_size`.

    Raises:
      RunError: no such run, or a place for vectors of texts that it does not read.

    Returns:
      evaluator -> metrics, and "run": step, split, number of windows, and the
      multiples of "gap_robustness" without a window, with the reason.
    """
    from farsighted_jax.cli import spread
    from farsighted_jax.cli.evaluate_policy import evaluate_policy_run
    from farsighted_jax.cli.run import RunError, read_run, with_text_encoder
    from farsighted_jax.evaluators.registry import evaluate

    mesh = spread.mesh_of_all()
    run = read_run(folder, step, spread.everywhere(mesh))
    if (text_features or text_encoder) and not run.config.data.get("text_features"):
        raise RunError(
            f"{folder}: was not trained on stored vectors of texts, so there is no place for others"
        )
    if text_features and text_encoder:
        raise RunError("stored vectors of texts and their encoder: expected one of them")
    if text_encoder:
        run = with_text_encoder(run, folder)
    if batch_size:
        run.config.eval.batch_size = batch_size
    # Every run has its image encoder, so that other splits and offsets need no stored tokens.
    place = {"dir": data_dir or run.config.data.dir, "depth": _depth_mode(run), "image_features": ""}
    if text_features:
        place["text_features"] = text_features
    if run.config.task != "lam":
        return evaluate_policy_run(run, folder, split=split, place=place, evaluators=evaluators, mesh=mesh)
    batch_size = run.config.eval.batch_size
    options = {"batch_size": batch_size, "statistics": run.statistics, **place}
    scored = spread.open_whole(run.config, split=split, **options)
    fitted = spread.open_whole(run.config, **options)
    functions = spread.over_devices(latent_action_functions(run), mesh, batch_size)
    names = tuple(evaluators or run.config.eval.evaluators)
    gaps, not_tested = _gap_batches(run, batch_size, split, place) if "gap_robustness" in names else ({}, {})
    result = evaluate(
        functions,
        scored.epoch(),
        names,
        seed=run.config.seed,
        datasets=tuple(scored.specs.values()),
        fit_batches=_some_batches(run, fitted),
        true_motion=_true_motion(place["dir"], scored.names, split),
        fit_true_motion=_true_motion(place["dir"], scored.names, run.config.data.split),
        gaps=gaps,
    )
    result["run"] = {
        "step": run.step,
        "split": split,
        "windows": scored.num_windows,
        "datasets": list(scored.names),
        **({"gaps_not_tested": not_tested} if not_tested else {}),
    }
    evaluation_report.draw(folder / "figures", functions, scored, result)
    return result


def latent_action_functions(run):
    """The run's model as the functions that evaluators take, compiled at their first call."""
    import jax
    import numpy as np

    from farsighted_jax.evaluators.base import LatentActionFunctions
    from farsighted_jax.lam.inference import LatentActions

    task = run.task
    actions = LatentActions(task, run.params, run.model_state)
    loss = jax.jit(
        lambda params, state, batch, key: task.loss(params, state, batch, key, task.denominators(batch))
    )

    def metrics(batch):
        rows = {**batch, "row": np.arange(len(batch["rgb"]), dtype=np.int32)}
        return loss(run.params, run.model_state, rows, jax.random.key(0))[1][0]

    return LatentActionFunctions(
        encode=actions.encode,
        decode=actions.decode,
        codebook_size=actions.codebook_size,
        num_slots=actions.num_slots,
        metrics=metrics,
        perceptual=functools.partial(jax.jit(task.networks.perceptual_distance), run.params)
        if task.networks.perceptual
        else None,
        relative_depth=functools.partial(jax.jit(task.relative_depth), run.params)
        if task.weights.relative_depth
        else None,
    )


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


def _scaled(data, multiple):
    """The offsets of a data section, those of single datasets too, times a multiple."""

    def times(offsets_s):
        return tuple(round(multiple * offset, 6) for offset in offsets_s)

    own = tuple((name, times(offsets_s)) for name, offsets_s in data.get("dataset_offsets_s", ()))
    return {"offsets_s": times(data.offsets_s), "dataset_offsets_s": own}


def _some_batches(run, stream):
    return itertools.islice(_shuffled_batches(stream), run.config.eval.fit_batches)


def _gap_scored(run, stream):
    """All windows, or so many batches of them, the same ones for every model with these gaps."""
    most = run.config.eval.get("gap_batches", 0)
    if not most or stream.num_windows <= most * stream.batch_size:
        return stream.epoch()
    return itertools.islice(_shuffled_batches(stream), most)


def _gap_batches(run, batch_size, split, place):
    """Batches at each multiple of the trained offsets, and why others have none."""
    from data_pipelines.errors import DatasetError
    from farsighted_jax.cli.spread import open_whole
    from farsighted_jax.evaluators.registry import GapBatches

    multiples = run.config.eval.get("gap_multiples", DEFAULT_GAP_MULTIPLES)
    found, not_tested = {}, {}
    for multiple in multiples:
        # Whole windows alone, so that models with other keyframes are scored on the same ones.
        options = {"batch_size": batch_size, "statistics": run.statistics, **place}
        options["whole_windows"] = True
        try:
            scored = open_whole(run.config, split=split, **_scaled(run.config.data, multiple), **options)
            fitted = open_whole(run.config, **_scaled(run.config.data, multiple), **options)
        except DatasetError as error:
            not_tested[str(multiple)] = str(error)
        else:
            found[multiple] = GapBatches(_gap_scored(run, scored), _some_batches(run, fitted))
    return found, not_tested
