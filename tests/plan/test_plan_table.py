"""The kept plans are those of the shipped configurations; open rows are commands that work."""

import json
from pathlib import Path

import jax
import pytest

from farsighted_jax.core import config as config_lib
from farsighted_jax.plan import table
from farsighted_jax.plan.topology import PlanError, topology
from farsighted_jax.viz.plan_memory import plan_memory

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "configs" / "results" / "plans" / "plans.json"
ROWS = json.loads(KEPT.read_text(encoding="utf-8"))["rows"]
SIZES = json.loads((ROOT / "tests" / "golden" / "configs.json").read_text(encoding="utf-8"))


# The rows after these are for the figure.
NUM_SHIPPED = 20
SMALL = next(row["plan"] for row in ROWS if "plan" in row)


def option(row, name, default=None):
    values = row["arguments"]
    return values[values.index(name) + 1] if name in values else default


@pytest.mark.parametrize("row", ROWS, ids=table.command)
def test_a_row_is_of_a_shipped_configuration(row):
    reference = option(row, "--config")
    overrides = [text.removeprefix("--config.") for text in row["arguments"] if text.startswith("--config.")]
    config = config_lib.load(str(ROOT / reference), overrides)
    wanted = topology(option(row, "--topology"), int(option(row, "--slices", 1)))
    assert config.batch_size % (wanted.num_chips * config.optimizer.accumulation) == 0
    plan = row.get("plan")
    if plan is None:
        return
    if not any(text.startswith("model.") for text in overrides):
        assert plan["params"] == SIZES[reference]["trainable_params"]
        assert plan["frozen_params"] == SIZES[reference]["frozen_params"]
    assert plan["batch_size"] == config.batch_size and plan["topology"]["chips"] == wanted.num_chips
    assert plan["mesh"]["fsdp"] == config.mesh.fsdp
    assert plan["fits"] == (plan["collectives"] is not None)
    assert sum(plan["memory"].values()) == pytest.approx(plan["peak_gib_per_chip"], abs=0.01)


def test_the_tables_are_made_of_the_json_and_every_row_is_finished():
    kept = KEPT.with_suffix(".md").read_text(encoding="utf-8")
    assert kept == table.markdown({"rows": ROWS}) and all("plan" in row for row in ROWS)
    told = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    lines = kept.splitlines()[: 2 + NUM_SHIPPED]
    assert len({row["name"] for row in ROWS[:NUM_SHIPPED]}) == 5 and "\n".join(lines) in told


@pytest.mark.slow  # two to four minutes on two cores
def test_the_first_row_is_found_again():
    pytest.importorskip("libtpu")
    kept = ROWS[0]["plan"]
    found = table.planned(
        [str(ROOT / text) if text.startswith("configs/") else text for text in ROWS[0]["arguments"]]
    )["plan"]
    exact = ("fits", "hbm_gib_per_chip", "params", "flops_per_step", "mesh", "topology", "attention")
    assert {name: found[name] for name in exact} == {name: kept[name] for name in exact}
    assert found["executed_flops_per_step"] == kept["executed_flops_per_step"]
    if kept["jax"] == jax.__version__:  # the compiler is of jax's version
        assert found["peak_gib_per_chip"] == pytest.approx(kept["peak_gib_per_chip"], rel=0.01)
        assert found["collectives"].keys() == kept["collectives"].keys()
        for kind, entry in kept["collectives"].items():
            assert found["collectives"][kind]["gib"] == pytest.approx(entry["gib"], rel=0.01)


def test_finished_rows_are_skipped_and_the_file_is_written_after_each(tmp_path, monkeypatch):
    path = tmp_path / "plans.json"
    rows = [{"name": name, "arguments": ["--topology", "v5e:2x2"]} for name in ("a", "b", "c")]
    rows[0] |= {"plan": SMALL, "cpu_minutes": 0.5}
    path.write_text(json.dumps({"rows": rows}))
    asked = []

    def planned(arguments):
        if asked:
            raise PlanError("cut off")
        asked.append(arguments)
        return {"plan": SMALL, "cpu_minutes": 1.0}

    monkeypatch.setattr(table, "planned", planned)
    with pytest.raises(PlanError, match="cut off"):
        table.fill(path, lambda line: None)
    kept = json.loads(path.read_text())["rows"]
    assert [row.get("plan") for row in kept] == [SMALL, SMALL, None]
    assert path.with_suffix(".md").read_text() == table.markdown({"rows": kept})


def test_a_row_that_ends_with_an_error_is_not_kept():
    with pytest.raises(PlanError, match="ended with status 2"):
        table.planned(["--topology", "v5e:2x2"])


def test_the_figure_has_the_rows_of_each_series(tmp_path):
    pytest.importorskip("matplotlib")

    def row(chips, gib, *series):
        return {"series": series, "plan": {"topology": {"chips": chips}, "peak_gib_per_chip": gib}}

    rows = [row(4, 2.0, "fixed", "grown"), row(16, 0.5, "fixed"), row(16, 2.0, "grown"), {"name": "open"}]
    assert plan_memory(tmp_path / "p.png", {"rows": rows}).stat().st_size > 5000
    assert plan_memory(tmp_path / "q.png", {"rows": [{"name": "open"}]}) is None
