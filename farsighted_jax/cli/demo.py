"""`farsighted demo`: writes procedural scenes, trains a LAM on them, ends with a page of figures."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from farsighted_jax.cli import arguments

# (configuration, training steps, level, training episodes, validation episodes)
FULL = ("configs/lam_synthetic_hard.py", 500, "hard", 400, 50)
QUICK = ("configs/smoke.py", 100, "easy", 40, 8)


def main(argv: Sequence[str]) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="farsighted demo", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a minute on tiny scenes, to see that all works")
    parser.add_argument("--out", help="folder of data, run and page (default: runs/demo or runs/demo-quick)")
    flags = arguments.parse_flags(parser, argv)
    out = Path(flags.out or ("runs/demo-quick" if flags.quick else "runs/demo"))
    page = run(out, *(QUICK if flags.quick else FULL))
    print(f"\nfigures: {page.resolve()}")
    print(f"open it in a browser; the pictures alone are in {page.parent / 'run/figures'}")
    return 0


def run(out: Path, reference: str, total_steps: int, level: str, num_train: int, num_val: int) -> Path:
    """Data, training, evaluation and page; a second call goes on where the first ended.

    Args:
      out: folder of everything that is written.
      reference: configuration `path[:argument]`, relative to the repository.
      total_steps: training steps, in place of the configuration's.
      level: of the procedural scenes.
      num_train: training episodes.
      num_val: validation episodes.

    Returns:
      The page.
    """
    from data_pipelines.builders.synthetic import dataset_name, write_dataset
    from farsighted_jax.cli import evaluate, evaluation_report, train
    from farsighted_jax.core import config as config_lib

    begin = time.perf_counter()
    root = Path(__file__).resolve().parents[2]
    config = config_lib.load(str(root / reference))
    config.total_steps = total_steps
    config.data.dir, config.data.mixture = str(out / "data"), dataset_name(level)
    write_dataset(out / "data", level, num_train=num_train, num_val=num_val, progress=print)
    train.run(config, out / "run")
    result = evaluate.evaluate_run(out / "run")
    (out / "run" / "eval.json").write_text(
        json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8"
    )
    print(evaluation_report.summary(result))
    return write_demo_page(out, result, minutes=(time.perf_counter() - begin) / 60)


def write_demo_page(out: Path, result: dict, minutes: float) -> Path:
    """One self-contained page: held-out figures beside their baselines, pictures, curves."""
    from farsighted_jax.viz import metric_tables as tables
    from farsighted_jax.viz.page import Picture, Section, write_page

    figures = out / "run" / "figures"
    depth = tables.depth_table(result["reconstruction"])
    sections = [
        Section(
            "What the codes are worth",
            "The probe reads the codes and predicts the summed action, which the model never saw. "
            "Copying frame 0 and codes of another clip are what the prediction has to beat.",
            tables=[
                tables.reconstruction_table(result["reconstruction"]),
                *tables.probe_tables(result["latent_probe"]),
                tables.codebook_table(result["codebook"]),
                *([depth] if depth else []),
                *tables.motion_tables(result),
            ],
        ),
        Section(
            "Held-out predictions",
            "Each frame k is predicted from frame 0 and the codes of the transition alone.",
            pictures=[
                Picture(figures / name, title) for name, title in FIGURES.items() if (figures / name).exists()
            ],
        ),
    ]
    trained = result["run"]
    lead = (
        f"A latent action model, trained for {trained['step']} steps without actions on procedural scenes "
        f"({', '.join(trained['datasets'])}). Scored on {trained['windows']} held-out windows, whose "
        f"textures it has never seen. This call took {minutes:.1f} minutes."
    )
    return write_page(out / "index.html", "Farsighted-LAM on procedural scenes", sections, lead)


FIGURES = {
    "predictions.png": "Frame 0, then truth, prediction and error of each keyframe",
    "depth.png": "Depth of each keyframe: truth and prediction",
    "codes.png": "How often each slot uses each code",
    "transfer.png": "The codes of clip A on the first frame of another clip B",
    "curves.png": "Training",
}
