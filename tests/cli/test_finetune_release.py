"""A policy that is finetuned from a release, without the run that was published or its LAM."""

import functools
import json
import shutil

import jax
import numpy as np
import pytest
from tiny_policy_run import policy_config, write_policy_run

from farsighted_jax.checkpoint import restore
from farsighted_jax.cli import train
from farsighted_jax.cli.publish import publish
from farsighted_jax.cli.run import read_run
from farsighted_jax.core import tree
from farsighted_jax.lam import model as lam_model
from farsighted_jax.policy import model as policy_model
from farsighted_jax.sharding import mesh

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")


@pytest.fixture
def small(monkeypatch):
    """Sizes that compile quickly, on one device."""
    alone = functools.partial(mesh.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(mesh, "make_mesh", alone)
    sizes = {"width": 8, "num_heads": 2}
    monkeypatch.setitem(lam_model.VARIANTS, "tiny", {**sizes, "encoder_depth": 1, "decoder_depth": 1})
    monkeypatch.setitem(policy_model.VARIANTS, "tiny", {**sizes, "depth": 1, "head_depth": 2})


def without_actions(config):
    config.task, config.model.action = "policy_pretrain", False


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_it_starts_from_the_released_parameters_and_keeps_the_lam(tmp_path, capsys):
    pretrained, released, finetuned = (tmp_path / name for name in ("pretrained", "released", "finetuned"))
    pretrained.mkdir()
    publish(write_policy_run(pretrained, without_actions), released)
    found = tree.flat_paths(restore.read_weights(released)[1]["params"])
    config = policy_config(pretrained)
    shutil.rmtree(pretrained / "run")
    config.lam, config.init, config.batch_size, config.log_every = "", str(released), 2, 1
    # Steps of no length leave the parameters that they start from.
    config.total_steps, config.optimizer.learning_rate, config.optimizer.final_learning_rate = 2, 0.0, 0.0
    train.run(config, finetuned)
    said = capsys.readouterr().out
    assert f"warm start from step 5 in {released}" in said and "left over" not in said
    assert "fresh: action_head, backbone/positions/action_queries, embodiment\n" in said
    document = (released / "lam.json").read_text()
    shutil.rmtree(released)
    again = read_run(finetuned)
    params = tree.flat_paths(again.params)
    assert any(path.startswith("pretrained/lam/") for path in found)
    for path, values in found.items():
        np.testing.assert_array_equal(params[path], values, err_msg=path)
    assert json.loads((finetuned / "lam.json").read_text()) == json.loads(document)
    assert again.task.inputs.latent_actions is not None and again.task.spaces.width == 7
    lines = [json.loads(line) for line in (finetuned / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2] and lines[1]["train/grad_norm"] > 0
    assert {"train/action", "train/latent", "train/vision"} <= lines[1].keys()
