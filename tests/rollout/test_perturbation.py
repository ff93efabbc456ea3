"""Scenes that no demonstration has shown: drawn from the seed, each kind on its own, the motion the same."""

import concurrent.futures
import ctypes.util
import importlib.util
import multiprocessing

import numpy as np
import pytest

from farsighted_jax.rollout.perturbation import NAMES, Perturbation, Table
from farsighted_jax.rollout.workers import make_environment

SCENE = """
<mujoco>
  <asset>
    <texture name="wood" type="cube" builtin="flat" rgb1="1 0 0" width="8" height="8"/>
    <texture name="stone" type="2d" builtin="flat" rgb1="0 1 0" width="8" height="8"/>
    <texture name="sky" type="skybox" builtin="flat" rgb1="0 0 1" width="8" height="8"/>
    <material name="table" texture="wood"/>
    <material name="floor" texture="stone"/>
    <material name="plain" rgba="1 0 0 1"/>
  </asset>
  <worldbody>
    <light pos="0 0 2" diffuse="0.5 0.5 0.5"/>
    <camera name="fixed" pos="0 -1 1"/>
    <geom name="floor" type="plane" size="1 1 1" material="floor"/>
    <geom name="table" type="box" size="1 1 0.1" material="table"/>
    <body name="hand">
      <freejoint/>
      <camera name="wrist"/>
      <geom name="finger" type="sphere" size="0.1" material="plain"/>
    </body>
  </worldbody>
</mujoco>
"""
TABLE = Table(0.1, ((-1, -0.5, 0, 1), (0.5, 1, 0, 1)))
# Field -> the perturbation that changes it.
FIELDS = {
    "cam_pos": "camera",
    "cam_quat": "camera",
    "light_pos": "light",
    "light_diffuse": "light",
    "geom_matid": "texture",
    "geom_tint": "texture",
    "body_pos": "distractor",
    "geom_rgba": "distractor",
}


def model_of(names, *seeds):
    # Not at the top: the simulator's process imports this file, and chooses its renderer first.
    mujoco = pytest.importorskip("mujoco", reason="pip install -e '.[sim]'")
    perturbation, spec = Perturbation(names, TABLE), mujoco.MjSpec.from_string(SCENE)
    perturbation.add_to(spec)
    model = spec.compile()
    for seed in seeds:
        perturbation.begin(model, seed)
    return model


def drawn(model, field):
    return model.mat_rgba[model.geom_matid] if field == "geom_tint" else getattr(model, field)


@pytest.mark.parametrize("name", NAMES)
def test_a_perturbation_changes_its_own_fields_by_the_seed_alone(name):
    never, first, again, other = (model_of((name,), *seeds) for seeds in ((), (3,), (8, 3), (4,)))
    for field, owner in FIELDS.items():
        found = drawn(first, field)
        np.testing.assert_array_equal(found, drawn(again, field), err_msg=field)
        for model in (never, other):
            assert np.array_equal(found, drawn(model, field)) == (owner != name), field


def test_what_is_drawn_does_not_depend_on_what_else_is():
    alone, together = model_of(("light",), 3), model_of(NAMES, 9, 3)
    np.testing.assert_array_equal(alone.light_diffuse, together.light_diffuse)
    np.testing.assert_array_equal(model_of(("camera",), 3).cam_quat, together.cam_quat)
    distractors = [model.body("distractor").pos for model in (model_of(("distractor",), 3), together)]
    np.testing.assert_array_equal(*distractors)


def test_a_camera_on_the_robot_and_the_sky_stay():
    model, before = model_of(NAMES, 3), model_of(NAMES)
    fixed, wrist = model.camera("fixed"), model.camera("wrist")
    assert np.abs(fixed.pos - [0, -1, 1]).max() <= 0.06 and np.linalg.norm(fixed.quat) == pytest.approx(1)
    assert 2 * np.degrees(np.arccos(abs(fixed.quat @ before.camera("fixed").quat))) <= 6.001
    np.testing.assert_array_equal(wrist.pos, 0)
    names = [model.material(model.geom(geom).matid[0]).name for geom in ("floor", "table", "finger")]
    assert names[0].startswith("unseen_2d_") and names[1].startswith("unseen_cube_") and names[2] == "plain"


def test_a_distractor_stands_on_the_table_and_touches_nothing():
    for seed in range(20):
        model = model_of(("distractor",), seed)
        x, y, z = model.body("distractor").pos
        assert 0.5 <= abs(x) <= 1 and 0 <= y <= 1 and 0.13 <= z <= 0.16
        geom = model.geom("distractor")
        assert geom.contype[0] == geom.conaffinity[0] == 0
    assert model.nq == 7


def seen(names):
    """In a process of its own: two episodes of the same seed, with another one between them."""
    environment = make_environment(
        "metaworld", {"resolution": 24, "cameras": ("primary",)} | ({"perturb": names} if names else {})
    )
    found = []
    for seed in (5, 6, 5):
        environment.reset("drawer-open", seed)
        pictures, states = [], []
        for _ in range(4):
            view = environment.view()
            pictures.append(view.rgb["primary"])
            states.append(view.state)
            environment.step(environment.expert())
        found.append((np.stack(pictures), np.stack(states)))
    return environment.settings.get("perturbations"), found


@pytest.mark.skipif(
    importlib.util.find_spec("metaworld") is None or ctypes.util.find_library("OSMesa") is None,
    reason="needs the extra 'sim' and Debian's libosmesa6",
)
def test_the_simulator_looks_otherwise_and_moves_the_same():
    spawn = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, spawn) as pool:
        (none, plain), (names, perturbed) = pool.map(seen, [(), NAMES])
    assert none is None and names == list(NAMES)
    for (pictures, states), (other_pictures, other_states) in zip(plain, perturbed, strict=True):
        np.testing.assert_array_equal(states, other_states)
        assert np.abs(pictures.astype(int) - other_pictures).mean() > 5
    np.testing.assert_array_equal(perturbed[0][0], perturbed[2][0])
    assert np.abs(perturbed[0][0].astype(int) - perturbed[1][0]).mean() > 5
