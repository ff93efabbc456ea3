"""The demo: its commands are ones that the command line takes, and its page says what was measured."""

import json
import subprocess
import sys

import cv2
import numpy as np
import pytest

from farsighted_jax.cli import demo, demo_page
from farsighted_jax.cli.main import COMMANDS
from farsighted_jax.core import config as config_lib
from farsighted_jax.viz.film import write_mp4

RATE = {"success": 0.5, "interval": [0.3, 0.7], "episodes": 20, "steps_to_success": 80}
RATES = {"task_mean": 0.5, "tasks": dict.fromkeys(demo.TASKS, RATE)}


def commands(out, size=demo.FULL, encoder=None):
    return [command for phase in demo.phases(out, size, encoder) for lane in phase for command in lane]


@pytest.mark.parametrize("size", [demo.FULL, demo.QUICK])
def test_every_stage_has_a_configuration_that_takes_its_overrides(tmp_path, size):
    stages = {}
    for command in commands(tmp_path, size):
        assert command.arguments[0] in COMMANDS
        if command.arguments[0] == "train":
            overrides = [a.removeprefix("--config.") for a in command.arguments if a.startswith("--config.")]
            stages[command.name] = config_lib.load(command.arguments[2], overrides)
    assert set(stages) == {"lam", "pretrain", "finetune", "cloner"}
    assert stages["pretrain"].lam == str(tmp_path / "lam")
    assert stages["finetune"].init == str(tmp_path / "pretrain")
    assert {config.data.resolution for config in stages.values()} == {96}
    assert not stages["cloner"].model.plan and not stages["cloner"].model.vision
    for stage, steps in size.steps.items():
        assert stages[stage].total_steps == steps


def test_a_pretrained_network_takes_the_place_of_the_small_encoder(tmp_path):
    trained = {
        c.name: c.arguments for c in commands(tmp_path, encoder="dinov2-vits14") if c.arguments[0] == "train"
    }
    assert "--config.model.image_encoder=dinov2-vits14" in trained["lam"]
    for stage in ("lam", "pretrain", "finetune"):
        assert set(demo.PRETRAINED_SIZES) <= set(trained[stage])
    assert not set(demo.PRETRAINED_SIZES) & set(trained["cloner"])


def lane(*lines):
    """Commands whose names are those of Python programs, see `as_python`."""
    return [demo.Command(name, (program,)) for name, program in lines]


@pytest.fixture
def as_python(monkeypatch):
    """Runs `Command.arguments` as a Python program."""
    popen = subprocess.Popen
    monkeypatch.setattr(
        demo.subprocess, "Popen", lambda line, **options: popen([sys.executable, "-c", line[3]], **options)
    )


def test_lanes_run_side_by_side_and_in_order(tmp_path, as_python):
    # Each lane waits for a file of the other.
    wait = "import pathlib,time\nwhile not pathlib.Path({!r}).exists(): time.sleep(.01)\n"
    touch = "import pathlib; pathlib.Path({!r}).touch()"
    a, b = str(tmp_path / "a"), str(tmp_path / "b")
    first = lane(("one", touch.format(a)), ("two", wait.format(b)))
    second = lane(("three", wait.format(a)), ("four", touch.format(b)))
    demo._run_lanes([first, second], tmp_path, 0.0)


def test_a_stage_that_fails_ends_the_demo_with_its_last_words(tmp_path, as_python):
    failing = lane(("broken", "import sys; print('no such thing'); sys.exit(3)"), ("never", "print(1)"))
    endless = lane(("endless", "import time; time.sleep(600)"))
    with pytest.raises(demo.DemoError, match=r"status 3(.|\n)*no such thing"):
        demo._run_lanes([failing, endless], tmp_path, 0.0)
    assert not (tmp_path / "never.log").exists()


def test_the_last_words_of_a_stage_are_words(tmp_path):
    log = tmp_path / "lam.log"
    log.write_text("step 20\n  slow compile? \r\n*****\n\n")
    assert demo._last_line(log) == "slow compile?"
    log.write_text("")
    assert demo._last_line(log) == ""


def test_what_is_there_is_not_made_again(tmp_path, as_python):
    (tmp_path / "made").touch()
    demo._run_lanes([[demo.Command("again", ("raise SystemExit(1)",), tmp_path / "made")]], tmp_path, 0.0)


@pytest.fixture
def finished(tmp_path):
    """A folder as a demo leaves it, with made-up figures."""
    for name in ("rollout", "rollout-cloner"):
        (tmp_path / name / "films").mkdir(parents=True)
        found = {"policy": RATES, "expert": RATES, "random": {**RATES, "task_mean": 0.0}}
        (tmp_path / name / "results.json").write_text(json.dumps(found))
    frames = np.zeros((4, 32, 32, 3), np.uint8)
    write_mp4(tmp_path / "rollout/films/door-open-2000000.mp4", frames, 40)
    by_horizon = {"0.1": 20.0}
    lam = {
        "reconstruction": {f"psnr{end}": by_horizon for end in ("", "_copy", "_shuffled")},
        "codebook": {"usage": {"all": 0.5}, "perplexity": {"all": 9.0}, "codebook_size": 256},
    }
    everything = {"all": 0.25}
    error = {"normalised": {name: everything for name in ("mae_over_mean", "mae_over_repeat")}}
    finetuned = {
        "action_error": {"metaworld_clean": error},
        "plan_accuracy": {"top1": everything, "top1_frequent": everything},
        "imagined_frame": {"psnr": by_horizon, "psnr_copy": by_horizon},
    }
    for stage, measured in {"lam": lam, "finetune": finetuned}.items():
        (tmp_path / stage / "figures").mkdir(parents=True)
        (tmp_path / stage / "eval.json").write_text(json.dumps(measured))
        cv2.imwrite(str(tmp_path / stage / "figures/curves.png"), frames[0])
    return tmp_path


def test_results_and_page_say_what_was_measured(finished):
    results = demo._results(finished, 0.0)
    assert results["success"] == results["cloner_success"] == 0.5 and results["random_success"] == 0.0
    assert results["episodes_per_task"] == 20 and results["tasks"] == list(demo.TASKS)
    assert set(results) >= {"wall_minutes", "commit", "per_task"}
    pages = [
        demo_page.write_demo_page(finished, results | {"quick": quick}, ["farsighted train"]).read_text()
        for quick in (True, False)
    ]
    assert ["no figure here means anything" in page for page in pages] == [True, False]
    page = pages[1]
    assert "50% (30% to 70%)" in page and "farsighted train" in page
    assert "data:image/webp;base64" in page and "http" not in page.replace("http-equiv", "")
