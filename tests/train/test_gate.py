"""The health gate: windows on the device, warnings, restarts, and the end of a collapsed run."""

import dataclasses
import json
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toy_task

from farsighted_jax.checkpoint import manifest
from farsighted_jax.cli import main as command_line
from farsighted_jax.core.config import ConfigError
from farsighted_jax.sharding.mesh import make_mesh
from farsighted_jax.train import gate as gate_module
from farsighted_jax.train import loop

GATE = gate_module.Gate("variety", 2.0, start_step=4, window=3, patience=2)


@dataclasses.dataclass(frozen=True)
class CollapsingTask(toy_task.ToyTask):
    """Its `variety` is 8 until its model state has seen `collapses_at` updates, and 1 from then on."""

    collapses_at: int = 9

    def init(self, key, batch):
        params, state = super().init(key, batch)
        return params, state | {"seen": jnp.zeros(()), "restarts": jnp.zeros(())}

    def next_model_state(self, model_state, updates):
        state, metrics = super().next_model_state(model_state, updates)
        state |= {"seen": model_state["seen"] + 1, "restarts": model_state["restarts"]}
        variety = jnp.where(state["seen"] < self.collapses_at, 8.0, 1.0)
        return state, metrics | {"variety": (variety, jnp.ones(()))}

    def restarted_model_state(self, model_state, updates):
        return model_state | {"restarts": model_state["restarts"] + 1}


def run(folder, task, **changes):
    config = toy_task.toy_config(**{"gate__metric": "variety", "gate__minimum": 2.0} | changes)
    mesh = make_mesh(config.mesh, jax.devices()[:1])
    return loop.train(task, toy_task.ToyStream(config.batch_size), config, folder, mesh=mesh)


def windows_of(values, gate=GATE):
    """(health, low) after each step of a series of metric values; NaN stands for one that counted nothing."""
    step_function = jax.jit(
        lambda health, step, metrics: gate_module.next_health(gate, health, step, metrics)
    )
    health, found = gate_module.initial_health(), []
    for step, value in enumerate(values, start=1):
        counted = np.isfinite(value)
        pair = (jnp.float32(2 * value if counted else 0), jnp.float32(2 * counted))
        health, low = step_function(health, step, {"variety": pair})
        found.append((float(health["mean"]), int(health["low_in_a_row"]), bool(low)))
    return found


def test_windows_are_means_after_the_first_steps():
    # Steps 1 to 4 are not looked at; windows are 5..7, 8..10, 11..13 and 14..16.
    found = windows_of([0, 0, 0, 0, 1, 1, 3, 1, 1, 9, 1, np.nan, 2, 1, 1, 1])
    assert [low for _, _, low in found] == [n in (7, 13, 16) for n in range(1, 17)]
    assert [found[n - 1][0] for n in (7, 10, 13, 16)] == pytest.approx([5 / 3, 11 / 3, 1.5, 1])
    assert [found[n - 1][1] for n in (6, 7, 9, 10, 13, 16)] == [0, 1, 1, 0, 1, 2]


def test_an_unknown_metric_and_bad_numbers_are_named():
    with pytest.raises(ConfigError, match="gate.metric.*'varety'.*variety"):
        gate_module.next_health(
            dataclasses.replace(GATE, metric="varety"),
            gate_module.initial_health(),
            1,
            {"variety": (1.0, 1.0)},
        )
    with pytest.raises(ConfigError, match="gate.window"):
        gate_module.make_gate({"metric": "variety", "window": 0})
    assert gate_module.make_gate(None).metric == ""


@pytest.fixture(scope="module")
def collapsed(tmp_path_factory):
    """A run that collapses at step 9: windows 8..10 (mean 10/3), 11..13 and 14..16 (mean 1)."""
    folder = tmp_path_factory.mktemp("collapsed")
    with pytest.raises(gate_module.CollapsedError) as stopped:
        run(folder, CollapsingTask(), checkpoint__every=2)
    return folder, str(stopped.value)


def test_a_collapsed_run_warns_and_stops_with_what_it_saw(collapsed, capsys):
    folder, message = collapsed
    assert "step 16: variety was 1 on average over a window of 3 steps" in message
    assert "gate.minimum = 2, in 2 windows in a row" in message and "gate.patience" in message
    assert manifest.complete_steps(folder / "checkpoints")[-1] == 14
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 15 and lines[-1]["train/gate_low_in_a_row"] == 1
    assert "train/gate_mean" not in lines[5] and lines[6]["train/gate_mean"] == 8


def test_a_resumed_run_judges_the_same_windows(collapsed, tmp_path, capsys):
    run(tmp_path, CollapsingTask(), stop_step=12)
    assert "warning" not in capsys.readouterr().out
    with pytest.raises(gate_module.CollapsedError) as stopped:
        run(tmp_path, CollapsingTask())
    assert str(stopped.value) == collapsed[1]
    printed = capsys.readouterr().out
    assert printed.count("warning: step 13: variety was 1 on average") == 1 and "1 of 2 before" in printed


def test_a_restart_may_cure_and_a_healthy_run_is_left_alone(tmp_path):
    class Cured(CollapsingTask):
        def restarted_model_state(self, model_state, updates):
            return super().restarted_model_state(model_state | {"seen": jnp.full((), -50.0)}, updates)

    cured = run(tmp_path / "cured", Cured())
    assert cured.step == 20 and cured.state.model_state["restarts"] == 1
    healthy = run(tmp_path / "healthy", CollapsingTask(collapses_at=99))
    assert healthy.step == 20 and healthy.state.model_state["restarts"] == 0


def test_the_command_ends_with_status_1(tmp_path, monkeypatch, capsys):
    module = types.ModuleType("collapsing_command")
    module.main = lambda argv: run(tmp_path, CollapsingTask(), log_every=10)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert command_line.run(module.__name__, []) == 1
    assert "farsighted: error: step 20: variety was 1" in capsys.readouterr().err
