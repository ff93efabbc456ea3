"""Eight datasets that share nothing train a LAM and a policy; weights change when the policy goes on."""

import functools
import json

import jax
import pytest
from everything import MIXTURE, WEIGHTS, write_everything
from source_tree import ROOT

from farsighted_jax.cli.evaluate import evaluate_run
from farsighted_jax.cli.main import main
from farsighted_jax.lam import model as lam_model
from farsighted_jax.policy import model as policy_model
from farsighted_jax.sharding import mesh
from farsighted_jax.train.resume import earlier_data


def train(file, folder, root, **changes):
    """`farsighted train` with a shipped configuration made small; "__" stands for a dot."""
    values = {
        "data.dir": root, "data.cache_dir": root / "cache", "data.mixture": MIXTURE, "data.resolution": 16,
        "data.offsets_s": "(0.2,0.4)", "batch_size": 10, "log_every": 1, "model.unroll": 1,
        "checkpoint.every": 1, "total_steps": 4,
    }  # fmt: skip
    values |= {key.replace("__", "."): value for key, value in changes.items()}
    flags = [f"--config.{key}={value}" for key, value in values.items()]
    config = str(ROOT / "configs" / f"{file}.py:tiny")
    assert main(["train", "--config", config, *flags, "--workdir", str(folder)]) == 0
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert all(line["train/loss"] > 0 for line in lines)
    return lines


@pytest.mark.slow
@pytest.mark.parametrize("bridge", ["generated", "real"])
def test_everything_trains_and_goes_on_with_other_weights(bridge, tmp_path, monkeypatch, capsys):
    root = tmp_path / "data"
    root.mkdir()
    if write_everything(root, bridge) is None:
        pytest.skip("no real robot data beside the repository (../shared/data)")
    alone = functools.partial(mesh.make_mesh, devices=jax.devices()[:1])
    monkeypatch.setattr(mesh, "make_mesh", alone)
    sizes = {"width": 8, "num_heads": 2}
    monkeypatch.setitem(lam_model.VARIANTS, "tiny", {**sizes, "encoder_depth": 1, "decoder_depth": 1})
    monkeypatch.setitem(policy_model.VARIANTS, "tiny", {**sizes, "depth": 1, "head_depth": 2})
    lam, policy, straight = (tmp_path / name for name in ("lam", "policy", "straight"))
    train("lam_pretrain", lam, root, model__head="pixels", model__num_keypoints=0, gate__metric="")
    options = {"lam": lam, "data__text_length": 8, "data__cameras": "('primary','wrist')"}
    first = "two_arms:0.5,films:0.3,base:0.2"
    begin = functools.partial(train, "policy_finetune", root=root, data__mixture=first, **options)
    begin(policy, stop_step=2)
    changed = functools.partial(train, "policy_finetune", policy, root, **options)
    lines = changed()
    # One mixture after the other, each dataset with the index that it had; none is wider than those before.
    assert "changed keys: data.mixture" in capsys.readouterr().out
    step, data = earlier_data(policy)
    names = list(dict.fromkeys(["two_arms", "films", "base", *WEIGHTS]))
    assert (step, data["datasets"]) == (4, names)
    assert [segment[0] for segment in data["schedule"]] == [0, 2]
    assert data["schedule"][1][1] == pytest.approx(WEIGHTS)
    specs = json.loads((policy / "specs.json").read_text())
    assert [spec["name"] for spec in specs] == names
    # The first half was that of a run whose weights never change.
    kept = begin(straight)
    digests = [[line["data/ids_digest"] for line in each] for each in (kept, lines)]
    assert digests[0][:2] == digests[1][:2] and digests[0][2:] != digests[1][2:]
    report = evaluate_run(policy, split="train", evaluators=("action_error",))
    assert report["run"]["datasets"] == names
