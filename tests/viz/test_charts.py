import json
import sys

import cv2
import pytest

from farsighted_jax.viz import charts
from farsighted_jax.viz.codes import code_usage
from farsighted_jax.viz.curves import loss_terms, read_metrics, training_curves

CODEBOOK = {
    "usage": {"all": 0.75},
    "perplexity": {"all": 2.2},
    "usage_per_slot": {"all": [0.5, 0.5]},
    "perplexity_per_slot": {"all": [1.8, 2.0]},
    "distinct_tuples": {"all": 3},
    "num_samples": {"all": 4},
    "counts_per_slot": {"all": [[3, 1, 0, 0], [2, 0, 2, 0]]},
}


def write_metrics(path, records, tail=""):
    path.write_text("".join(json.dumps(record) + "\n" for record in records) + tail)
    return path


def records(num=20):
    return [
        {
            "step": step,
            "train/loss": 2.0 / (step + 1),
            "train/rgb": 1.0 / (step + 1),
            "train/samples_per_s": 50.0,
            "train/input_stall": 0.1,
            "train/learning_rate": 1e-4,
            "val/psnr": 20.0,
        }
        for step in range(num)
    ]


def test_training_curves_have_their_size_and_content(tmp_path):
    pytest.importorskip("matplotlib")
    metrics = write_metrics(tmp_path / "metrics.jsonl", records())
    image = cv2.imread(str(training_curves(tmp_path / "figures" / "curves.png", metrics)))
    assert image.shape == (round(3.4 * charts.DPI), round(11.4 * charts.DPI), 3) and image.std() > 5
    only_loss = write_metrics(tmp_path / "short.jsonl", [{"step": 1, "train/loss": 1.0}])
    narrow = cv2.imread(str(training_curves(tmp_path / "short.png", only_loss)))
    assert narrow.shape[1] == round(4.6 * charts.DPI)


def test_loss_terms_are_told_from_rates(tmp_path):
    others = ("goodput", "gate_low_in_a_row", "psnr", "plan_top10", "action_error", "place_perplexity")
    lines = [line | {f"train/{name}": 1.0 for name in ("action", *others)} for line in records()]
    series = read_metrics(write_metrics(tmp_path / "metrics.jsonl", lines))
    assert loss_terms(series) == ["train/loss", "train/action", "train/rgb"]


def test_the_last_line_of_a_step_wins_and_a_torn_tail_is_passed_over(tmp_path):
    lines = [{"step": 2, "train/loss": 5.0}, {"step": 1, "train/loss": 3.0}, {"step": 2, "train/loss": 4.0}]
    path = write_metrics(tmp_path / "metrics.jsonl", lines, tail='{"step": 3, "tra')
    assert read_metrics(path) == {"train/loss": [(1, 3.0), (2, 4.0)]}


def test_a_broken_line_and_a_file_without_losses_are_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "train/loss": 1.0}\n[1, 2]\n{"step": 2, "train/loss": 1.0}\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2"):
        read_metrics(path)
    empty = write_metrics(tmp_path / "empty.jsonl", [{"step": 1, "val/psnr": 3.0}])
    with pytest.raises(ValueError, match="val/psnr"):
        training_curves(tmp_path / "x.png", empty)


def test_code_usage_has_its_size_and_content(tmp_path):
    pytest.importorskip("matplotlib")
    image = cv2.imread(str(code_usage(tmp_path / "codes.png", CODEBOOK)))
    assert image.shape == (int((2.6 + 0.28 * 2) * charts.DPI), 9 * charts.DPI, 3) and image.std() > 10
    with pytest.raises(ValueError, match="without samples"):
        code_usage(tmp_path / "none.png", {"num_samples": {"all": 0}})


def test_without_matplotlib_the_error_says_how_to_get_it(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"pip install farsighted-jax\[plot\]"):
        code_usage(tmp_path / "codes.png", CODEBOOK)
