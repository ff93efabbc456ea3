"""What `farsighted inspect data` says and draws of a mixture."""

import json
import re

import numpy as np
import pytest
from everything import MIXTURE, WEIGHTS, write_everything
from rlds_writer import episode_steps

from data_pipelines.stream import open_stream
from farsighted_jax.cli.main import main
from farsighted_jax.viz.stream_page import samples, unnormalised_actions


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_everything(tmp_path_factory.mktemp("everything"))


def inspected(root, *flags):
    values = {
        "data.dir": root, "data.cache_dir": root / "cache", "data.mixture": MIXTURE, "data.resolution": 8,
        "data.offsets_s": "(0.2,0.4)", "batch_size": 20, "data.cameras": "('primary','wrist')",
    }  # fmt: skip
    argv = [f"--config.{key}={value}" for key, value in values.items()]
    return main(["inspect", "data", "--config", "configs/policy_finetune.py:tiny", *argv, *flags])


def test_it_reports_the_mixture_and_the_loader_and_draws_samples(root, tmp_path, capsys):
    page = tmp_path / "out" / "seen.html"
    flags = ["--json", "--seconds", "0.2", "--episodes", "1", "--clips", "1", "--out", str(page)]
    assert inspected(root, *flags) == 0
    report = json.loads(capsys.readouterr().out)
    mixture = report["mixture"]["datasets"]
    assert {name: of["weight"] for name, of in mixture.items()} == pytest.approx(WEIGHTS)
    for of in mixture.values():
        assert of["share"] == pytest.approx(of["weight"], rel=0.01)
    loader = report["loader"]
    assert loader["frames_per_s"] > 0 and loader["rss_mb"] > 10 and loader["batch_size"] == 20
    assert loader["budget_mb"] == 1024 and 0 < loader["kept_mb"] < loader["budget_mb"]
    text = page.read_text(encoding="utf-8")
    assert report["page"] == str(page)
    assert not re.findall(r'(?:src|href)="(?!data:image/png;base64,)', text) and "<script" not in text
    # The clip and the history of one sample of each dataset.
    assert text.count("<img") == 2 * len(WEIGHTS)
    for words in (
        "a12 [m]",
        "gripper [1]",
        "shoulder.pos [1]",
        "Told nothing.",
        "history_valid",
        "frames_per_s",
    ):
        assert words in text, words
    assert re.search(r"Told: &#x27;task \d&#x27;, 7 of \d+ tokens", text)


def test_actions_are_those_that_were_stored(root):
    data = {"dir": str(root), "mixture": "arm7,two_arms,films", "split": "train", "resolution": 8}
    stream = open_stream(data | {"offsets_s": (0.2,), "action_horizon": 3}, batch_size=6, seed=0)
    seen = []
    for batch, row in samples(stream, 2):
        name = stream.names[batch["dataset"][row]]
        values_JM = unnormalised_actions(stream, batch, row)
        seen.append(name)
        if name == "films":
            assert values_JM is None
            continue
        width, length = (7, 6) if name == "arm7" else (14, 18)
        extra = {"wrist": True, "state_width": 5 if name == "arm7" else 14, "size": (12, 16)}
        extra |= {"depth": "png"} if name == "arm7" else {}
        steps = episode_steps(int(batch["episode"][row]), length, width=width, **extra)
        start = int(batch["step"][row])
        stored = np.stack([step["action"] for step in steps[start : start + 3]])
        np.testing.assert_allclose(values_JM[: len(stored)], stored, atol=1e-5)
        assert np.isnan(values_JM[len(stored) :]).all()
    assert seen == ["arm7"] * 2 + ["two_arms"] * 2 + ["films"] * 2


def test_wrong_flags_are_refused(root, capsys):
    assert inspected(root, "--clips", "0") == 2
    assert "--clips" in capsys.readouterr().err
