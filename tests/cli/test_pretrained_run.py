"""Runs with pretrained networks: refused without their weights, complete in their own folder with them."""

import math
import shutil
from pathlib import Path

import pytest
from source_tree import ROOT
from tiny_networks import PATCH, use_tiny_networks, write_network

from farsighted_jax.checkpoint.digest import content_digests
from farsighted_jax.cli import evaluate, train
from farsighted_jax.cli import main as command
from farsighted_jax.cli.run import read_run
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.model import VARIANTS
from farsighted_jax.pretrained import folder

NETWORKS = ("dinov2-tiny", "vgg16", "lpips-vgg16", "depth-anything-tiny")


def test_absent_weights_stop_a_run_before_it_begins(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("farsighted_jax.sharding.mesh.make_mesh", None)
    reference = f"{ROOT / 'configs' / 'lam_pretrain.py'}:small"
    arguments = ["train", "--config", reference, "--workdir", str(tmp_path / "run")]
    assert command.main([*arguments, "--config.data.dir=nowhere"]) == 1
    said = capsys.readouterr().err
    for name, source in (
        ("dinov2-vits14", "facebook/dinov2-small"), ("vgg16", "timm/vgg16.tv_in1k"), ("lpips-vgg16", "FILE")
    ):  # fmt: skip
        place = tmp_path / "cache" / "pretrained" / name
        assert f"farsighted convert --model {name} --source {source} --out {place}" in said
    assert not (tmp_path / "run").exists()


def run_config(data_dir):
    config = config_lib.load(str(ROOT / "configs/lam_pretrain.py:tiny"))
    config.data.dir, config.data.mixture = str(data_dir), "tiny"
    config.data.resolution, config.data.offsets_s = 16, (0.2, 0.6)
    config.total_steps, config.batch_size, config.log_every = 3, 8, 1
    config.mesh.data, config.mesh.fsdp = 4, 2
    config.model.image_encoder, config.model.patch = "dinov2-tiny", PATCH
    config.model.head, config.model.num_keypoints, config.model.unroll = "pixels", 0, 1
    config.model.frame_encoder = "linear"
    config.model.depth_input, config.model.depth_estimator = "fuse", "depth-anything-tiny"
    config.loss.lpips, config.loss.feature = 1.0, 0.1
    config.optimizer.ema_decay, config.eval.batch_size = 0.5, 4
    return config


@pytest.mark.slow
def test_a_run_resumes_and_is_evaluated_without_the_folders_its_networks_came_from(
    tool_data, tmp_path, monkeypatch
):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(
        VARIANTS, "tiny", {"width": 8, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2}
    )
    use_tiny_networks(monkeypatch)
    config = run_config(tool_data)
    with pytest.raises(folder.PretrainedFolderError, match="--model dinov2-tiny"):
        train.run(config, tmp_path / "straight")
    for name in NETWORKS:
        write_network(name)
    straight = train.run(config, tmp_path / "straight")
    config.stop_step = 2
    train.run(config, tmp_path / "parts")
    given = {name: content_digests(folder.load(name).params) for name in NETWORKS}
    shutil.rmtree(tmp_path / "cache")
    config.stop_step = 0
    assert train.run(config, tmp_path / "parts").state_digest == straight.state_digest

    run = read_run(tmp_path / "parts")
    kept = {name: content_digests(network) for name, network in run.params[PRETRAINED].items()}
    assert kept == given
    assert run_paths_with(tmp_path / "parts", "dinov2-tiny") == {"frozen"}
    result = evaluate.evaluate_run(tmp_path / "parts", evaluators=("mean", "reconstruction"))
    metrics = result["reconstruction"]
    for name in ("lpips", "lpips_copy", "lpips_shuffled"):
        assert metrics[name].keys() == {"0.2", "0.6"}
        assert all(math.isfinite(value) and value > 0 for value in metrics[name].values())
    assert {"feature", "lpips"} <= {name for name, value in result["mean"]["mean"].items() if value}


def run_paths_with(workdir: Path, name: str) -> set[str]:
    """Top-level folders of a run in whose manifests a network's arrays stand."""
    manifests = workdir.rglob("manifest.json")
    return {path.relative_to(workdir).parts[0] for path in manifests if name in path.read_text()}
