"""Codes that `farsighted label` stored, in a policy's training step, are worth those made in it."""

import functools
import json

import jax
import pytest
from tool_cases import VARIANT, tool_config, write_lam_run

from data_pipelines.stream import open_stream
from farsighted_jax.cli import label, train
from farsighted_jax.core import config as config_lib
from farsighted_jax.lam import model as lam_model
from farsighted_jax.policy import model as policy_model
from farsighted_jax.sharding import mesh


@pytest.fixture
def small(monkeypatch):
    """Sizes that compile quickly, on one device."""
    alone = functools.partial(mesh.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(mesh, "make_mesh", alone)
    monkeypatch.setitem(lam_model.VARIANTS, "tiny", VARIANT)
    sizes = {"width": 8, "num_heads": 2, "depth": 1, "head_depth": 2}
    monkeypatch.setitem(policy_model.VARIANTS, "tiny", sizes)


def first_step(folder, **changes):
    """The metrics of one step of a policy on a LAM's data, augmented; "__" stands for a dot."""
    config = config_lib.load("configs/policy_pretrain.py:tiny")
    config_lib.change(
        config,
        {
            "data.mixture": "tiny", "data.resolution": 16, "data.offsets_s": (0.2, 0.6),
            "data.text_length": 4, "data.augment": True, "data.plain_clip": True, "model.unroll": 1,
            "batch_size": 8, "total_steps": 1,
            **{key.replace("__", "."): value for key, value in changes.items()},
        },
    )  # fmt: skip
    train.run(config, folder)
    return json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_a_step_on_stored_codes_is_that_on_codes_made_in_it(tool_data, tmp_path):
    config = tool_config(tool_data)
    statistics = open_stream(config.data, batch_size=1, seed=0).statistics
    lam, labels = write_lam_run(tmp_path / "lam", config, statistics), tmp_path / "labels"
    label.run(labels, str(lam), report=lambda line: None)
    common = {"lam": str(lam), "data__dir": str(tool_data)}
    made = first_step(tmp_path / "made", **common)
    stored = first_step(tmp_path / "stored", **common, plan__codes="stored", data__codes=str(labels))
    assert stored["data/ids_digest"] == made["data/ids_digest"] and made["train/latent"] > 1
    for name in ("loss", "latent", "vision", "plan_top1", "plan_top10", "grad_norm"):
        assert stored[f"train/{name}"] == pytest.approx(made[f"train/{name}"], rel=1e-5), name
