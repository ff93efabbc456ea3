"""The commands on a small written dataset, as a user runs them."""

import json
import subprocess
import sys

import pytest

from data_pipelines.code_dataset import CodeReader
from farsighted_jax.core import config as config_lib


def farsighted(*arguments, status=0):
    command = [sys.executable, "-m", "farsighted_jax.cli.main", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == status, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    write = [sys.executable, "-m", "data_pipelines.builders.synthetic", folder, "--level", "easy"]
    subprocess.run(
        [*map(str, write), "--train", "6", "--val", "3"], check=True, capture_output=True, timeout=120
    )
    return ["--config", "configs/smoke.py", f"--config.data.dir={folder}", "--config.eval.fit_batches=2"]


def test_a_typo_ends_with_status_2_and_the_nearest_key():
    done = farsighted(
        "train", "--config", "configs/smoke.py", "--config.data.mixtur=x", "--workdir", "w", status=2
    )
    assert "did you mean 'data.mixture'" in done.stderr


def test_offsets_that_no_frame_fits_are_refused_before_training(config, tmp_path):
    done = farsighted(
        "train", *config, "--config.data.offsets_s=(0.05,0.2)", "--workdir", tmp_path / "w", status=1
    )
    assert "synthetic_easy" in done.stderr and "0.05" in done.stderr
    assert not (tmp_path / "w" / "metrics.jsonl").exists()


def test_inspect_config_counts_parameters(config):
    report = json.loads(farsighted("inspect", "config", *config, "--json").stdout)
    assert report["trainable_params"] > 100_000
    assert report["frozen_params"] == 0
    frozen = farsighted(
        "inspect", "config", *config, "--json", "--config.optimizer.freeze=('^image_encoder/',)"
    )
    frozen = json.loads(frozen.stdout)
    assert frozen["frozen_params"] > 0
    assert frozen["trainable_params"] + frozen["frozen_params"] == report["trainable_params"]


def test_inspect_data_reports_episodes_and_windows(config):
    report = json.loads(farsighted("inspect", "data", *config, "--json", "--seconds", "0.1").stdout)
    assert report["datasets"]["synthetic_easy"]["episodes"] == 6
    assert report["windows"] == 6 * 11


def test_bench_data_prints_one_object(config):
    result = json.loads(farsighted("bench", "data", *config, "--batches", "20", "--json").stdout)
    assert {"frames_per_s", "rss_mb", "first_batch_s", "host"} <= result.keys()
    assert result["frames_per_s"] > 0


@pytest.mark.slow
def test_train_stop_resume_evaluate(config, tmp_path):
    """Four steps with a stop in between equal four without, bit for bit; then every figure is there."""
    train = ["train", *config, "--config.total_steps=4", "--config.log_every=1"]
    train += ["--config.eval.gap_multiples=(1,2,4,16)"]
    farsighted(*train, "--workdir", tmp_path / "straight")
    farsighted(*train, "--workdir", tmp_path / "parts", "--config.stop_step=2")
    resumed = farsighted(*train, "--workdir", tmp_path / "parts")
    assert "resumed from step 2" in resumed.stdout
    straight, parts = (
        [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        for name in ("straight", "parts")
    )
    assert [line["step"] for line in parts] == [1, 2, 3, 4]
    for here, there in zip(straight, parts, strict=True):
        assert here["data/ids_digest"] == there["data/ids_digest"]
        assert here["train/loss"] == there["train/loss"]
    assert straight[-1]["state_digest"] == parts[-1]["state_digest"]
    assert {
        "train/rgb",
        "train/depth",
        "train/samples_per_s",
        "train/input_stall_share",
        "data/unread_frames",
        "data/episodes_skipped",
    } <= parts[0].keys()

    run = tmp_path / "straight"
    farsighted("evaluate", "--checkpoint", run, "--split", "val", "--out", run / "eval.json")
    result = json.loads((run / "eval.json").read_text())
    assert {"mean", "reconstruction", "codebook", "latent_probe", "run"} <= result.keys()
    assert result["reconstruction"]["psnr"].keys() == {"0.2", "0.4", "0.6"}
    probe = result["latent_probe"]["synthetic_easy"]["r2"]
    assert probe["true_motion"]["0.2"]["translation"] > 0.99
    assert {"controllability", "composition", "transfer"} <= result.keys()
    for name in ("predictions.png", "depth.png", "codes.png", "curves.png", "transfer.png"):
        assert (run / "figures" / name).stat().st_size > 5000
    gaps = run / "gaps.json"
    farsighted("evaluate", "--checkpoint", run, "--evaluators", "gap_robustness", "--out", gaps)
    gaps = json.loads(gaps.read_text())
    tested = gaps["gap_robustness"]["synthetic_easy"]
    assert tested["gap_s"] == {"1": 0.6, "2": 1.2} and tested["num_score"] == {"1": 27, "2": 18}
    not_tested = gaps["run"]["gaps_not_tested"]
    assert "synthetic_easy" in not_tested["16"] and set(not_tested) == {"4", "16"}
    assert set(gaps) == {"gap_robustness", "run"}
    assert (run / "figures" / "gaps_synthetic_easy.png").stat().st_size > 5000
    saved = config_lib.from_json((run / "config.json").read_text())
    assert saved.total_steps == 4

    clip = f"rlds:{saved.data.dir}/synthetic_easy:val:0"
    codes, film = tmp_path / "codes.json", tmp_path / "film.mp4"
    farsighted("encode", "--checkpoint", run, "--video", clip, "--out", codes)
    farsighted("decode", "--checkpoint", run, "--image", clip, "--codes", codes, "--out", film)
    assert codes.with_suffix(".png").stat().st_size > 5000 and film.stat().st_size > 2000
    farsighted("label", "--checkpoint", run, "--out", tmp_path, "--split", "val", "--shards", "2")
    labels = CodeReader(tmp_path, "synthetic_easy", "val")
    assert labels.labels["model"] == json.loads(codes.read_text())["model"]
    assert labels.episode(0).code_LtZ[0].tolist() == json.loads(codes.read_text())["clips"][0]["codes"]
    other = farsighted(
        "decode", "--checkpoint", tmp_path / "parts", "--step", "2", "--image", clip, "--codes", codes,
        "--out", film, status=1,
    )  # fmt: skip
    assert "encode again with this checkpoint" in other.stderr

    refused = farsighted(*train, "--workdir", run, "--config.loss.rgb=2.0", status=1)
    assert "loss.rgb: 1.0 -> 2.0" in refused.stderr
