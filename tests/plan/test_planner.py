import json
import re
from pathlib import Path

import pytest
import toy_task

from farsighted_jax.bench import devices
from farsighted_jax.cli import main
from farsighted_jax.plan import memory, planner
from farsighted_jax.plan.estimate import roofline
from farsighted_jax.plan.report import text
from farsighted_jax.plan.topology import topology
from farsighted_jax.sharding.mesh import MeshError

# What others read of a plan.
KEYS = (
    "fits peak_gib_per_chip hbm_gib_per_chip compile_s params flops_per_step collectives step_s_estimate "
    "mfu_estimate attention"
).split()
FLOPS = 1000
ROOT = Path(__file__).resolve().parents[2]


def toy_plan(largest=False, name="h100:8", slices=1, **changes):
    config = toy_task.toy_config(**changes)
    with config.unlocked():
        config.task, config.model = "toy", {"variant": "toy", "remat": "none"}
    sample, reports = {name: value[:1] for name, value in toy_task.ToyStream().batch(0).items()}, []
    found = planner.run(
        toy_task.ToyTask(), config, sample, topology(name, slices), flops_per_sample=FLOPS, largest=largest,
        report=reports.append,
    )  # fmt: skip
    return found, reports


@pytest.fixture(scope="module")
def plan():
    return toy_plan()[0]


def test_a_plan_says_what_the_step_needs(plan):
    assert plan["fits"] is True and set(KEYS) <= set(plan)
    assert plan["params"] == 6 * 8 + 8 + 8 * 4 + 4
    assert plan["flops_per_step"] == 16 * FLOPS
    # Two products forward, and backward one more than twice as many for want of a gradient of the input.
    assert plan["executed_flops_per_step"] == 16 * 2 * (2 * 6 * 8 + 3 * 8 * 4)
    assert plan["collectives"]["all-reduce"]["count"] >= 1
    assert plan["simulated"] and plan["attention"].startswith("unknown")
    assert plan["memory"]["optimizer_gib"] >= plan["memory"]["params_gib"]
    assert plan["mesh"] == {"data": 8, "fsdp": 1, "tensor": 1} == plan["suggested_mesh"]
    assert plan["change"] == []
    assert json.loads(json.dumps(plan)) == plan


def test_the_text_has_the_verdict_and_the_estimate(plan):
    lines = text(plan).splitlines()
    assert lines[1].startswith("fits: needs") and "simulated" in lines[1]
    assert any("estimate, not measured" in line for line in lines)


def test_a_step_that_does_not_fit_says_what_to_change(monkeypatch):
    small = devices.CHIPS["h100"]._replace(hbm_gib=2e3 / 2**30)
    monkeypatch.setitem(devices.CHIPS, "h100", small)
    found, reports = toy_plan(largest=True)
    assert found["fits"] is False and len(reports) == 2
    assert any(re.match(r"--config.optimizer.accumulation=2", line) for line in found["change"])
    names = [match[1] for line in found["change"] if (match := re.match(r"--config.model.remat=(\w+)", line))]
    assert names == ["dots", "full"]
    assert any(re.match(r"--config.mesh.fsdp=[248]", line) for line in found["change"])
    assert "2 and 1 samples a chip" in found["largest_batch_by"]
    assert "does not fit" in text(found)


def test_a_batch_that_does_not_divide_is_an_error():
    with pytest.raises(MeshError, match="batch size 20 is not divisible by 8 = data 8"):
        toy_plan(batch_size=20)


def test_the_line_through_two_compilations_tells_the_largest_batch():
    assert memory.largest_rows(100, peak=30, fixed=0, rows=2, other=(4, 50)) == 9
    assert memory.largest_rows(100, peak=30, fixed=10, rows=2, other=None) == 9
    assert memory.largest_rows(5, peak=30, fixed=10, rows=2, other=None) == 0


@pytest.mark.parametrize(
    ("message", "gib"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.50G of 15.75G hbm. Exceeded",
            20.5,
        ),
        ("the total memory required for HLO temporaries (240.00G) exceeds available HBM (15.75G).", 240),
        ("something else", None),
    ],
)
def test_the_compiler_says_by_how_much_it_is_too_much(message, gib):
    assert memory.overflow_bytes(message) == (None if gib is None else gib * 2**30)


def test_the_longest_decides():
    chip = devices.CHIPS["v5e"]
    messages = {"all-reduce": {"gib": 3.0, "network_gib": 1.0}}
    times = roofline(chip, num_chips=4, executed_flops=4e12, peak_bytes=0, collectives=messages)
    assert times["compute_s"] == pytest.approx(1e12 / 197e12)
    assert times["links_s"] == pytest.approx(2 * 2**30 / 180e9)
    assert times["step_s"] == times["network_s"] == pytest.approx(2**30 / 3.125e9)
    assert times["compute_bound_margin"] < 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--topology", "v9x:4"], "topology 'v9x:4' is unknown; expected CHIP:SHAPE"),
        (["--topology", "h100:8", "--config.batch_size=12"], "batch size 12 is not divisible by 8"),
        (["--topology", "h100:8", "--config.mesh.fsdp=3"], "multiple of 3"),
        (["--topology", "h100:8", "--slices", "0"], "--slices is 0, expected at least 1"),
    ],
)
def test_mistakes_are_one_line(arguments, words, capsys):
    argv = ["plan", "--config", str(ROOT / "configs/lam_pretrain.py:tiny"), *arguments]
    try:
        status = main.main(argv)
    except SystemExit as error:
        status = error.code
    assert status in (1, 2)
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("farsighted: error:") and words in last


@pytest.fixture
def tpu_compiler():
    """Skips where it is not installed."""
    pytest.importorskip("libtpu")


def test_a_step_is_compiled_for_slices_of_tpus_that_are_not_there(tpu_compiler):
    found, _ = toy_plan(name="v5p:2x2x1", slices=2, mesh__fsdp=2, batch_size=2**22)
    assert found["fits"] and not found["simulated"] and found["attention"] == "xla"
    assert found["mesh"] == {"data": 4, "fsdp": 2, "tensor": 1}
    assert 0 < found["peak_gib_per_chip"] < found["hbm_gib_per_chip"] == 95.74
    assert found["estimate"]["network_s"] > 0 and found["unknown_loops"] == 0


def test_what_may_fill_the_chips_is_compiled_as_in_training(tpu_compiler, monkeypatch):
    found, reports = toy_plan(name="v5e:2x2", batch_size=2**20)
    assert found["effort"] == "least" and len(reports) == 1
    just = devices.CHIPS["v5e"]._replace(hbm_gib=0.7 * found["peak_gib_per_chip"])
    monkeypatch.setitem(devices.CHIPS, "v5e", just)
    found, reports = toy_plan(name="v5e:2x2", batch_size=2**20)
    assert found["effort"] == "full" and len(reports) == 2 and "with full effort" in text(found)


def test_the_tpu_compiler_says_that_a_step_does_not_fit(tpu_compiler):
    found, _ = toy_plan(name="v5e:2x2", batch_size=2**30)
    assert found["fits"] is False and found["collectives"] is None
    assert found["peak_gib_per_chip"] > found["hbm_gib_per_chip"] == 15.75
    assert found["largest_batch_estimate"] < 2**30 and "RESOURCE_EXHAUSTED" in found["compiler_says"]
    assert "does not fit" in text(found)


@pytest.mark.slow
def test_a_model_is_planned_on_tpus_and_the_status_says_that_it_fits(tpu_compiler, capsys):
    argv = ["plan", "--config", str(ROOT / "configs/lam_pretrain.py:tiny"), "--topology", "v5e:2x2", "--json"]
    assert main.main(argv) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["fits"] and found["unknown_loops"] == 0
    # Every gradient is summed over the chips, in float32 or bfloat16.
    share = found["collectives"]["all-reduce"]["gib"] / (2 * 3 / 4 * found["params"] * 4 / 2**30)
    assert 0.45 < share < 1.2
