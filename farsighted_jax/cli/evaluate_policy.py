"""The part of `farsighted evaluate` about policies: their functions, their figures, their summary."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

SHEET_ROWS = 8
# Fields of a clip that are cut to frame 0 and the imagined one for a sheet.
PAIR = ("rgb", "depth", "depth_valid", "time_s", "frame_valid")


def evaluate_policy_run(
    run,
    folder: Path,
    *,
    split: str,
    place: Mapping[str, Any],
    evaluators: Sequence[str] | None = None,
    mesh=None,
) -> dict[str, Any]:
    """Evaluates a policy on a split and draws its figures; see `evaluate.evaluate_run`.

    Args:
      run: of `cli.run.read_run`.
      folder: its run folder; figures go to its "figures".
      split: of every dataset of the run's mixture.
      place: keys of `config.data` in place of the run's own.
      evaluators: names, in place of the run's own `eval.evaluators`.
      mesh: of `spread.mesh_of_all`, where the run's weights lie.
    """
    from farsighted_jax.cli import spread
    from farsighted_jax.cli.run import parts_for, trained_datasets
    from farsighted_jax.evaluators.registry import evaluate

    scored = spread.open_whole(
        run.config,
        batch_size=run.config.eval.batch_size,
        split=split,
        statistics=run.statistics,
        **trained_datasets(run.config, folder),
        **place,
    )
    parts_for(run.config, folder).check_stream(scored)
    functions = spread.over_devices(policy_functions(run), mesh, run.config.eval.batch_size)
    specs = tuple(scored.specs.values())
    result = evaluate(
        functions,
        scored.epoch(),
        tuple(evaluators or run.config.eval.evaluators),
        seed=run.config.seed,
        datasets=specs,
        action_scales=action_scales(run.statistics, specs, run.config.data.normalization),
    )
    result["run"] = {
        "step": run.step,
        "split": split,
        "windows": scored.num_windows,
        "datasets": list(scored.names),
    }
    draw(folder / "figures", functions, scored, result, sees_depth="history_depth" in run.task.fields)
    return result


def policy_functions(run):
    """The run's policy as the functions that evaluators take, compiled at their first call."""
    import jax
    import numpy as np

    from farsighted_jax.evaluators.base import PolicyFunctions
    from farsighted_jax.policy.inference import LatentPolicy

    task, model = run.task, run.task.model
    policy, key = LatentPolicy(task, run.params), jax.random.key(run.config.seed)
    loss = jax.jit(
        lambda params, batch, key: task.loss(params, {}, batch, key, task.denominators(batch))[1][0]
    )
    distance = jax.jit(lambda params, *frames: task.inputs.networks.perceptual_distance(params, *frames))

    def metrics(batch):
        rows = {**batch, "row": np.arange(len(batch["rgb"]), dtype=np.int32)}
        return loss(run.params, rows, key)

    def perceptual(predicted_BtHWC, true_BtHWC):
        return distance(run.params, predicted_BtHWC[:, 0], true_BtHWC[:, 0])[:, None]

    has = {group: group in policy.groups for group in ("vision", "plan", "action")}
    return PolicyFunctions(
        codebook_size=model.codebook_size,
        num_slots=model.layout.slots,
        actions=functools.partial(policy.actions, key=key) if has["action"] else None,
        logits=policy.logits if has["plan"] else None,
        plan=policy.plan if has["plan"] else None,
        imagined=policy.imagined if has["vision"] else None,
        metrics=metrics,
        perceptual=perceptual if task.inputs.networks.perceptual else None,
    )


def action_scales(statistics: Mapping[str, Any], specs: Sequence[Any], normalization: str):
    """What normalised actions mean, an `ActionScale` a dataset; None for one without actions.

    Args:
      statistics: dataset -> entry of a run's statistics.
      specs: of the datasets, in the order of their index.
      normalization: `data.normalization`.
    """
    import numpy as np

    from farsighted_jax.core.normalization import ArrayStatistics, denormalize, normalize
    from farsighted_jax.evaluators.base import ActionScale

    def scale(spec):
        if spec.action is None:
            return None
        action = ArrayStatistics.from_dict(statistics[spec.name]["action"])
        options = (action, normalization, [group == "gripper" for group in spec.action.groups])
        width = spec.action.width
        unit = denormalize(np.ones(width), *options) - denormalize(np.zeros(width), *options)
        return ActionScale(normalize(action.mean, *options), unit)

    return tuple(map(scale, specs))


def draw(folder: Path, functions, stream, result: Mapping[str, Any], *, sees_depth: bool = False) -> None:
    """Writes the pictures: the imagined frame and its depth, the error over the action chunk."""
    from farsighted_jax.cli.evaluation_report import spread_rows
    from farsighted_jax.core import hosts
    from farsighted_jax.evaluators.outputs import policy_outputs
    from farsighted_jax.viz.action_chunk import action_chunk_errors
    from farsighted_jax.viz.depth import depth_sheet
    from farsighted_jax.viz.frames import prediction_sheet

    if functions.imagined:
        batch = spread_rows(stream, SHEET_ROWS)
        outputs = policy_outputs(functions, batch, needs=("imagined",))
    if not hosts.is_first():
        return
    if functions.imagined:
        pair = {**batch, **{name: batch[name][:, :2] for name in PAIR if name in batch}}
        prediction_sheet(folder / "imagined.png", pair, outputs, rows=SHEET_ROWS)
        if "depth" in batch:
            depth_sheet(folder / "imagined_depth.png", pair, outputs, rows=SHEET_ROWS, seen=sees_depth)
    try:
        for name, entry in result.get("action_error", {}).items():
            action_chunk_errors(folder / f"actions_{name}.png", name, entry)
    except ImportError as error:
        print(f"no charts drawn: {error}")


def summary(result: Mapping[str, Any]) -> list[str]:
    """The figures that matter most, as lines."""
    lines = []
    for name, entry in result.get("action_error", {}).items():
        found = entry["normalised"]
        lines.append(
            f"  {name}: action error {_shown(found['mae']['all'])} (normalised), "
            f"{_shown(found['mae_over_mean']['all'])} of the mean action's, "
            f"{_shown(found['mae_over_repeat']['all'])} of the last action's, {entry['num_chunks']} chunks"
        )
    plan = result.get("plan_accuracy", {})
    if plan and plan["top1"]["all"] is not None:
        top = [
            f"{_shown(plan[f'top{k}']['all'])} ({_shown(plan[f'top{k}_frequent']['all'])})"
            for k in (1, 5, 10)
        ]
        lines.append(f"  plan: top-1, 5, 10 {', '.join(top)}; in brackets the most frequent codes")
        entropy, unigram, free = (
            _shown(plan[name]["all"]) for name in ("cross_entropy", "unigram_entropy", "top1_free")
        )
        lines.append(f"  plan: cross entropy {entropy} nats a code, unigram entropy {unigram}")
        lines.append(f"  plan: top-1 of greedy decoding {free}")
    for horizon, psnr in result.get("imagined_frame", {}).get("psnr", {}).items():
        copy = result["imagined_frame"]["psnr_copy"][horizon]
        lines.append(f"  {horizon} s: imagined frame PSNR {_shown(psnr)} dB, copy frame 0 {_shown(copy)}")
    return lines


def _shown(value):
    return "none" if value is None else f"{value:.3f}"
