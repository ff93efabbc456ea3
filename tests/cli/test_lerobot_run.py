"""A model trained on LeRobot datasets, from the command line."""

import json

import pytest
from lerobot_writer import write_lerobot

from farsighted_jax.cli.main import main


@pytest.mark.slow
def test_a_mixture_of_both_versions_trains_and_is_labelled(tmp_path):
    for version, name in (("v2.1", "two"), ("v3.0", "three")):
        write_lerobot(tmp_path / "data", version, name, lengths=(14,) * 6)
    data = [f"--config.data.dir={tmp_path / 'data'}", "--config.data.mixture=two:0.5,three:0.5"]
    train = ["train", "--config", "configs/smoke.py", *data, "--config.total_steps=3", "--config.log_every=1"]
    assert main([*train, "--workdir", str(tmp_path / "run")]) == 0
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3] and all(line["train/loss"] > 0 for line in lines)
    statistics = json.loads((tmp_path / "run" / "statistics.json").read_text())
    assert statistics["two"]["action"]["mean"] == pytest.approx(statistics["three"]["action"]["mean"])
    label = ["label", "--checkpoint", str(tmp_path / "run"), "--out", str(tmp_path / "labels")]
    assert main(label) == 0
    assert {path.name for path in (tmp_path / "labels").iterdir()} == {"two_codes", "three_codes"}
