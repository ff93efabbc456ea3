"""Windows and statistics against the `rlds` package, which shares no code with ours."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from data_pipelines.statistics import RunningStatistics
from data_pipelines.trajectory import keyframe_window, window_counts

pytestmark = [pytest.mark.slow, pytest.mark.parity]  # imports TensorFlow

LENGTHS = (2, 3, 7, 10)


@pytest.fixture(scope="module")
def episodes():
    return [
        np.random.default_rng(i).normal(3.0, 2.0, (n, 3)).astype(np.float32) for i, n in enumerate(LENGTHS)
    ]


@pytest.fixture(scope="module")
def oracle(episodes, tmp_path_factory):
    for package in ("tensorflow", "rlds"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    path = tmp_path_factory.mktemp("oracle") / "episodes.npz"
    np.savez(path, **{f"episode_{i}": actions for i, actions in enumerate(episodes)})
    # In a process of its own: TensorFlow would stay in this one, where other tests expect its absence.
    script = Path(__file__).with_name("rlds_oracle.py")
    run = subprocess.run(
        [sys.executable, str(script), str(path)], capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return json.loads(run.stdout)


@pytest.mark.parametrize("stride", [1, 2])
def test_windows_are_those_of_rlds_that_hold_a_transition(oracle, episodes, stride):
    steps = (stride, 2 * stride, 3 * stride)
    for actions, theirs in zip(episodes, oracle["windows"][str(stride)], strict=True):
        expected = [window for window in theirs if len(window) > 1]
        count = window_counts(np.array([len(actions)]), steps)[0]
        windows = [keyframe_window(start, steps, len(actions), 5.0) for start in range(count)]
        assert [window.frames[window.valid].tolist() for window in windows] == expected


def test_mean_and_standard_deviation_are_those_of_rlds(oracle, episodes):
    running = RunningStatistics()
    for actions in episodes:
        running.add(actions)
    found = running.result()
    np.testing.assert_allclose(found.mean, oracle["mean"], rtol=1e-5)
    # Theirs divides by count - 1, ours by count.
    theirs = np.array(oracle["std"]) * np.sqrt((found.count - 1) / found.count)
    np.testing.assert_allclose(found.std, theirs, rtol=1e-5)
