"""The page of the demo: success rates, films, imagined and true frames, codes, curves, commands."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from farsighted_jax.viz import metric_tables
from farsighted_jax.viz.film import animation
from farsighted_jax.viz.page import Picture, Section, Table, write_page

COLUMNS = {
    "policy": "policy",
    "cloner": "plain cloner",
    "expert": "scripted expert",
    "random": "random actions",
}

IMAGINED = {
    "imagined.png": "The present frame, the next keyframe as it came, as it was imagined, and the error",
    "imagined_depth.png": "The same for depth",
}
LATENT = {
    "predictions.png": "Frame 0, then truth, prediction and error of each keyframe",
    "depth.png": "Depth of each keyframe: truth and prediction",
    "codes.png": "How often each slot uses each code",
    "transfer.png": "The codes of clip A on the first frame of another clip B",
}
STAGES = {
    "lam": "Latent action model, from images and depth",
    "pretrain": "Policy, pretrained on codes and next keyframes without actions",
    "finetune": "Policy, finetuned with actions",
    "cloner": "Plain behaviour cloner",
}


def write_demo_page(out: Path, results: Mapping[str, Any], commands: Sequence[str]) -> Path:
    """Writes the page; returns it.

    Args:
      out: folder of the demo.
      results: what results.json holds.
      commands: as typed.
    """
    sections = [
        Section(
            "In closed loop",
            f"{results['episodes_per_task']} episodes of each task, with objects where no demonstration "
            "had them; in brackets the 95 % Wilson interval. An episode counts once its task is done. "
            "The cloner is the same transformer, trained on the same actions without latent actions, plan or "
            "imagined frame. Films show at their right what the policy had foreseen for that moment.",
            tables=[success_table(results)],
            pictures=_films(out),
        ),
        Section(
            "What the policy imagines",
            "Before it acts, the policy predicts the next keyframe and its depth. Held-out episodes.",
            tables=_policy_tables(out),
            pictures=_pictures(out / "finetune" / "figures", IMAGINED),
        ),
        Section(
            "What the latent actions hold",
            "The latent action model predicts every keyframe from frame 0 and a few codes. It was never told "
            "an action. Copying frame 0 and codes of another clip are what it has to beat. Held-out data.",
            tables=_latent_tables(out),
            pictures=_pictures(out / "lam" / "figures", LATENT),
        ),
        Section(
            "Training",
            pictures=[
                Picture(path, title)
                for stage, title in STAGES.items()
                if (path := out / stage / "figures" / "curves.png").exists()
            ],
        ),
        Section("Commands", "All that was run, in order.", folded="\n".join(commands)),
    ]
    lead = (
        f"{', '.join(results['tasks'])}: the policy succeeds in {results['success']:.0%} of the episodes. "
        f"This call took {results['wall_minutes']:.1f} minutes on {results['cores']} cores."
    )
    if results["quick"]:
        lead = f"A few steps of everything, to see that it works: no figure here means anything. {lead}"
    title = "SSM-VLA in Meta-World: latent actions, plan, imagined frame, actions"
    return write_page(out / "index.html", title, sections, lead)


def success_table(results: Mapping[str, Any]) -> Table:
    """Success rates by task and controller."""
    per_task = results["per_task"]
    rows = [(task, *(_rate(per_task[name][task]) for name in COLUMNS)) for task in results["tasks"]]
    means = ("success", "cloner_success", "expert_success", "random_success")
    rows.append(("mean", *(f"{results[name]:.0%}" for name in means)))
    return Table("Success rates", ("task", *COLUMNS.values()), rows)


def _rate(entry):
    low, high = entry["interval"]
    return f"{entry['success']:.0%} ({low:.0%} to {high:.0%})"


def _films(out):
    folder = out / "rollout" / "films"
    return [
        Picture(
            animation(film.with_suffix(".webp"), film),
            f"{film.stem.rpartition('-')[0]}, an unseen seed, half speed",
        )
        for film in sorted(folder.glob("*.mp4"))
    ]


def _pictures(folder, titles):
    return [Picture(folder / name, title) for name, title in titles.items() if (folder / name).exists()]


def _measured(out, stage):
    return json.loads((out / stage / "eval.json").read_text(encoding="utf-8"))


def _latent_tables(out):
    result = _measured(out, "lam")
    depth = metric_tables.depth_table(result["reconstruction"])
    tables = [
        metric_tables.reconstruction_table(result["reconstruction"]),
        metric_tables.codebook_table(result["codebook"]),
    ]
    return [*tables, *([depth] if depth else []), *metric_tables.motion_tables(result)]


def _policy_tables(out):
    result = _measured(out, "finetune")
    (error,) = result["action_error"].values()
    found, plan, frame = error["normalised"], result["plan_accuracy"], result["imagined_frame"]
    rows = [
        ("action error over that of the mean action", _number(found["mae_over_mean"]["all"])),
        ("action error over that of repeating the last action", _number(found["mae_over_repeat"]["all"])),
        ("codes of the plan that are the likeliest (true codes before them)", _number(plan["top1"]["all"])),
        ("the same of the most frequent codes", _number(plan["top1_frequent"]["all"])),
    ]
    for horizon, psnr in frame["psnr"].items():
        copy = frame["psnr_copy"][horizon]
        rows.append((f"PSNR of the imagined frame at {horizon} s, dB", _number(psnr)))
        rows.append((f"PSNR of a copy of the present frame at {horizon} s, dB", _number(copy)))
    return [Table("The finetuned policy on held-out episodes", ("", "measured"), rows)]


def _number(value):
    return "none" if value is None else f"{value:.2f}"
