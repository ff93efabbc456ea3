"""Runs of a policy: three stages, each complete in its own folder."""

import functools
import json
import shutil

import jax
import pytest
from rlds_writer import tiny_spec
from source_tree import ROOT

from farsighted_jax.cli import policy_run, train
from farsighted_jax.cli.run import read_run
from farsighted_jax.core import config as config_lib
from farsighted_jax.core.spec import to_dict
from farsighted_jax.lam import model as lam_model
from farsighted_jax.policy import model as policy_model
from farsighted_jax.sharding import mesh

DATA = {
    "data.mixture": "tiny", "data.resolution": 16, "data.offsets_s": (0.2, 0.6), "batch_size": 2,
    "log_every": 1, "model.unroll": 1,
}  # fmt: skip
LAM = {"total_steps": 2, "model.head": "pixels", "model.num_keypoints": 0, "gate.metric": ""}
POLICY = {"total_steps": 4, "checkpoint.every": 2, "data.text_length": 4}


def configuration(file, data_dir, **changes):
    """A shipped configuration made small; "__" stands for a dot."""
    config = config_lib.load(str(ROOT / "configs" / f"{file}.py:tiny"))
    named = {key.replace("__", "."): value for key, value in changes.items()}
    own = LAM if file == "lam_pretrain" else POLICY
    config_lib.change(config, {**DATA, **own, "data.dir": str(data_dir), **named})
    return config


@pytest.fixture
def described(tmp_path):
    """A run folder with the documents of a policy, and nothing else."""
    lam = configuration("lam_pretrain", tmp_path)
    document = {"config": lam.to_dict(), "statistics": {}, "step": 2, "digest": "0123" * 16}
    for name, value in (("lam.json", document), ("specs.json", [to_dict(tiny_spec())])):
        (tmp_path / name).write_text(json.dumps(value))
    return tmp_path


def test_a_task_is_read_back_without_data_or_the_folder_of_its_lam(described):
    config = configuration("policy_finetune", "nowhere", lam="gone")
    run = policy_run.policy_run(config, described)
    assert run.task.spaces.width == 7 and run.task.model.codebook_size == 256
    for name, text in run.documents().items():
        assert json.loads(text) == json.loads((described / name).read_text())
    assert set(policy_run.policy_zeros(config, run.task)) >= {"action", "history_rgb", "text", "proprio"}


def test_what_is_missing_is_named(described, tmp_path):
    config = configuration("policy_pretrain", "nowhere", data__mixture="bridge_dataset")
    with pytest.raises(config_lib.ConfigError, match="'lam' is empty, but 'model.image_encoder' is 'lam'"):
        policy_run.policy_run(config)
    config.lam = str(tmp_path / "nothing")
    with pytest.raises(config_lib.ConfigError, match="nothing has no configuration of a latent action model"):
        policy_run.policy_run(config)
    config.lam, config.init = "", str(described)
    run = policy_run.policy_run(config)
    assert list(run.specs) == ["bridge_dataset"] and run.task.spaces is None
    with pytest.raises(config_lib.ConfigError, match="the run of 'init' has no weights"):
        run.load_pretrained(run.task.pretrained_shapes())
    config.plan.codes, config.data.codes = "stored", "labels"
    stored = policy_run.policy_run(config)
    with pytest.raises(config_lib.ConfigError, match="'data.codes'.*digest abcd.*has 0123"):
        stored.check_codes(type("Format", (), {"digest": "abcd"}))


@pytest.mark.slow
def test_three_stages_and_a_resumed_run_equals_a_straight_one(tool_data, tmp_path, monkeypatch, capsys):
    # One device: what is compared are folders and bits, and eight simulated ones take minutes to compile for.
    alone = functools.partial(mesh.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(mesh, "make_mesh", alone)
    sizes = {"width": 8, "num_heads": 2}
    monkeypatch.setitem(lam_model.VARIANTS, "tiny", {**sizes, "encoder_depth": 1, "decoder_depth": 1})
    monkeypatch.setitem(policy_model.VARIANTS, "tiny", {**sizes, "depth": 1, "head_depth": 2})
    lam, pretrained, straight, resumed = (tmp_path / name for name in ("lam", "pretrained", "a", "b"))
    train.run(configuration("lam_pretrain", tool_data), lam)
    train.run(configuration("policy_pretrain", tool_data, lam=str(lam), stop_step=1), pretrained)
    shutil.rmtree(lam)
    train.run(configuration("policy_pretrain", tool_data, lam=str(lam)), pretrained)
    said = capsys.readouterr().out
    assert "loading pretrained lam" in said and "resumed from step 1" in said

    whole = train.run(configuration("policy_finetune", tool_data, init=str(pretrained)), straight)
    assert "fresh: action_head, backbone/positions/action_queries, embodiment\n" in capsys.readouterr().out
    train.run(configuration("policy_finetune", tool_data, init=str(pretrained), stop_step=2), resumed)
    shutil.rmtree(pretrained)
    again = train.run(configuration("policy_finetune", tool_data, init=str(pretrained)), resumed)
    assert again.step == whole.step == 4 and again.state_digest == whole.state_digest
    last = json.loads((straight / "metrics.jsonl").read_text().splitlines()[-1])
    assert "train/tflop_per_s" in last
    run = read_run(straight)
    assert run.task == policy_run.policy_run(run.config, straight).task and "lam" in run.params["pretrained"]
