"""Every block of the Open X registry reads an episode that is made of its own table of features."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
from block_episode import LENGTH, SIZE, TEXT, block_features, features_text, picture, read_back, stored_rows
from rlds_writer import write_rlds
from scipy.spatial.transform import Rotation

from data_pipelines import rlds
from data_pipelines.errors import DatasetError, NonFiniteError
from data_pipelines.features import check_spec, load_features
from data_pipelines.oxe.registry import BLOCKS, recipe_for
from data_pipelines.standardise import FORMS
from farsighted_jax.core.spec import to_dict

# What each gripper's stored values mean, told here once more: (open, closed), or the signs of commands.
AUSTIN = """viola austin_buds_dataset_converted_externally_to_rlds utaustin_mutex
  austin_sailor_dataset_converted_externally_to_rlds austin_sirius_dataset_converted_externally_to_rlds
  libero_spatial_no_noops libero_object_no_noops libero_goal_no_noops libero_10_no_noops libero_combined
  libero_10_no_noops_mini libero_10_no_noops_half libero_10_no_noops_quad
  libero_goal_no_noops_mini libero_goal_no_noops_half libero_goal_no_noops_quad"""
PLAIN = """bridge_dataset bridge_orig bridge_oxe toto nyu_franka_play_dataset_converted_externally_to_rlds
  cmu_franka_exploration_dataset_converted_externally_to_rlds cmu_play_fusion fmb fmb_dataset
  cmu_playing_with_food iamlab_cmu_pickup_insert_converted_externally_to_rlds
  tdroid_carrot_in_bowl tdroid_pour_corn_in_pot tdroid_flip_pot_upright tdroid_move_object_onto_plate
  tdroid_knock_object_over tdroid_cover_object_with_towel
  ucsd_kitchen_dataset_converted_externally_to_rlds ucsd_pick_and_place_dataset_converted_externally_to_rlds
  utokyo_xarm_pick_and_place_converted_externally_to_rlds utokyo_xarm_bimanual_converted_externally_to_rlds
  asu_table_top_converted_externally_to_rlds utokyo_pr2_opening_fridge_converted_externally_to_rlds
  utokyo_pr2_tabletop_manipulation_converted_externally_to_rlds tokyo_u_lsmo_converted_externally_to_rlds
  imperialcollege_sawyer_wrist_cam cmu_stretch dobbe rh20t
  aloha_mobile aloha_mobile_dataset aloha_static_dataset aloha_dagger_dataset"""
FLIPPED = """bc_z stanford_hydra_dataset_converted_externally_to_rlds droid droid_wipe robo_set roboset
  berkeley_rpt_converted_externally_to_rlds nyu_rot_dataset_converted_externally_to_rlds
  berkeley_mvp_converted_externally_to_rlds roboturk berkeley_fanuc_manipulation
  dlr_sara_pour_converted_externally_to_rlds dlr_sara_grid_clamp_converted_externally_to_rlds
  dlr_edan_shared_control_converted_externally_to_rlds"""
GRIPPERS = {
    (1.0, 0.0): PLAIN,
    (0.0, 1.0): f"{FLIPPED} {AUSTIN}",
    (-1.0, 1.0): """furniture_bench_dataset_converted_externally_to_rlds robo_net
      stanford_mask_vit_converted_externally_to_rlds""",
    (0.0, 255.0): "mujoco_manip",
    (1.0, -1.0): "taco_play maniskill_dataset_converted_externally_to_rlds",
    "relative": """fractal20220817_data kuka jaco_play berkeley_autolab_ur5
      nyu_door_opening_surprising_effectiveness""",
    "none": """language_table berkeley_cable_routing kaist_nonprehensile_converted_externally_to_rlds
      stanford_robocook_converted_externally_to_rlds columbia_cairlab_pusht_real uiuc_d3field
      stanford_kuka_multimodal_dataset_converted_externally_to_rlds
      berkeley_gnm_recon berkeley_gnm_cory_hall berkeley_gnm_sac_son gnm_dataset
      ego4d_split_1 ego4d_split_2 ego4d_split_3 ego4d_split_4""",
}
EVERY = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


@EVERY
def test_an_episode_of_its_own_features(block):
    rows = stored_rows(block)
    episode = read_back(block, rows)
    ahead = any(FORMS[part.form].ahead for part in block.table.action)
    first = block.table.skip_first
    assert episode.num_steps == LENGTH - first - ahead
    assert episode.instruction == (TEXT.encode() if block.spec.language_key else b"")
    if block.spec.action is None:
        assert episode.actions is None
    else:
        assert episode.actions.shape == (episode.num_steps, block.spec.action.width)
        assert episode.actions.dtype == np.float32 and np.isfinite(episode.actions).all()
    if block.spec.state_key:
        assert episode.states.shape == (episode.num_steps, len(block.spec.state_names))
        assert np.isfinite(episode.states).all()
    for camera in block.spec.cameras:
        expected = picture(first + 1)
        np.testing.assert_array_equal(
            episode.rgb(1, camera.name), expected[..., ::-1] if camera.bgr else expected
        )
        if camera.depth_key:
            stored = rows[camera.depth_key][first + 1].reshape(SIZE).astype(np.float32)
            np.testing.assert_array_equal(episode.depth(1, camera.name), stored)


@EVERY
def test_a_gripper_opens_to_1_and_closes_to_0(block):
    ends = [ends for ends, names in GRIPPERS.items() if block.name in names.split()]
    assert len(ends) == 1, "each block stands once in GRIPPERS"
    groups = block.spec.action.groups if block.spec.action else ()
    parts = [p for p in block.table.action for _ in range(p.made)]
    places = [i for i, group in enumerate(groups) if group == "gripper" and not block.spec.action.delta[i]]
    assert bool(places) == (ends[0] != "none")
    for place in places:
        part, rows = parts[place], stored_rows(block)
        column = rows[part.key].reshape(LENGTH, -1)
        for opening in (1.0, 0.0):
            told = {"relative": {1.0: -1.0, 0.0: 1.0}}.get(ends[0]) or dict(
                zip((1.0, 0.0), ends[0], strict=True)
            )
            column[:, part.at] = told[opening]
            np.testing.assert_array_equal(read_back(block, rows).actions[:, place], opening)


@EVERY
def test_its_meaning_is_complete(block):
    assert block.robot and block.versions
    assert set(block.sources) >= {"features", "cameras", "action", "frame", "hz"}
    assert all(block.sources.values()) and all(block.defects)
    if block.spec.action:
        names = set(block.spec.action.groups)
        assert ("rotation" in names) == (block.spec.action.rotation != "none")
        assert set(block.spec.action.units) <= {"m", "rad", "px", "1"}
    assert len(set(block.spec.state_names)) == len(block.spec.state_names)


@EVERY
def test_a_quaternion_becomes_the_same_rotation(block):
    orders = {"rpy_of_xyzw": [0, 1, 2, 3], "rpy_of_wxyz": [1, 2, 3, 0]}
    offset = 0
    for part in block.table.action:
        if part.form in orders:
            rows = stored_rows(block)
            stored = rows[part.key][:, part.at : part.at + 4][:, orders[part.form]]
            made = read_back(block, rows).actions[:, offset : offset + 3]
            turn = Rotation.from_euler("xyz", made) * Rotation.from_quat(stored).inv()
            np.testing.assert_allclose(turn.magnitude(), 0, atol=1e-5)
        offset += part.made


@pytest.mark.parametrize(
    "name, order",
    [("dlr_sara_pour_converted_externally_to_rlds", "zxy"), ("imperialcollege_sawyer_wrist_cam", "ZYX")],
)
def test_other_angles_become_the_same_rotation(name, order):
    rows = stored_rows(BLOCKS[name])
    made = read_back(BLOCKS[name], rows).actions[:, 3:6]
    turn = Rotation.from_euler("xyz", made) * Rotation.from_euler(order, rows["action"][:, 3:6]).inv()
    np.testing.assert_allclose(turn.magnitude(), 0, atol=1e-5)


def test_stored_units_become_metres_and_radians():
    block = BLOCKS["ucsd_kitchen_dataset_converted_externally_to_rlds"]
    rows = stored_rows(block)
    rows["action"][:, :6] = [410, 100, -50, 180, 90, 0]
    pose = [0.41, 0.1, -0.05, np.pi, np.pi / 2, 0]
    np.testing.assert_allclose(read_back(block, rows).actions[:, :6], [pose] * LENGTH, rtol=1e-6)


def test_a_vehicle_gets_where_its_actions_lead():
    block = BLOCKS["berkeley_gnm_recon"]
    rows = stored_rows(block)
    rows["observation/state"][:] = np.random.default_rng(0).uniform(-3, 3, (LENGTH, 3))
    episode = read_back(block, rows)
    x, y, yaw = np.asarray(episode.states[0], np.float64)
    for (ahead, left, turn), reached in zip(episode.actions, rows["observation/state"][1:], strict=True):
        x += np.cos(yaw) * ahead - np.sin(yaw) * left
        y += np.sin(yaw) * ahead + np.cos(yaw) * left
        yaw += turn
        np.testing.assert_allclose([x, y], reached[:2], atol=1e-5)
        np.testing.assert_allclose(np.sin(yaw - reached[2]), 0, atol=1e-5)


def test_actions_made_of_states_add_up_to_them():
    block = BLOCKS["bridge_oxe"]
    rows = stored_rows(block)
    rows["observation/state"][:, 5] = [3.0, 3.1, -3.1, -3.0, -2.9, 3.1]
    episode = read_back(block, rows)
    assert episode.num_steps == LENGTH - 2
    reached = episode.states[0, :6] + np.cumsum(episode.actions[:, :6], axis=0)
    stored = rows["observation/state"][2:, :6]
    turned = (reached - stored + np.pi) % (2 * np.pi) - np.pi
    np.testing.assert_allclose(turned, 0, atol=1e-5)
    assert np.abs(episode.actions[:, 5]).max() < 0.4


def test_a_relative_gripper_is_held():
    block = BLOCKS["fractal20220817_data"]
    rows = stored_rows(block, 7)
    rows["action/gripper_closedness_action"][:, 0] = [0, 1, 0, 0.05, -1, 0, 0]
    np.testing.assert_array_equal(read_back(block, rows).actions[:, 6], [1, 0, 0, 0, 1, 1, 1])
    rows["action/gripper_closedness_action"][:, 0] = [0, -1, 0, 0, 0, 0, 0]
    np.testing.assert_array_equal(read_back(block, rows).actions[:, 6], [0, 1, 1, 1, 1, 1, 1])
    rows["action/gripper_closedness_action"][:, 0] = 0
    np.testing.assert_array_equal(read_back(block, rows).actions[:, 6], 1)


def test_a_nan_and_another_width_are_named():
    block = BLOCKS["fractal20220817_data"]
    rows = stored_rows(block)
    rows["action/rotation_delta"][2, 1] = np.nan
    with pytest.raises(NonFiniteError, match=r"dataset 'fractal.*step 2.*dimension 4 \(pitch\) is nan"):
        read_back(block, rows)
    features = load_features(features_text(block_features(BLOCKS["bc_z"])), "features.json")
    with pytest.raises(DatasetError, match="dataset 'bc_z': no feature 'action/world_vector'"):
        check_spec(features, block.spec, "bc_z", block.recipe)
    features = load_features(features_text(block_features(BLOCKS["bridge_dataset"])), "features.json")
    recipe = BLOCKS["bridge_oxe"].recipe
    with pytest.raises(DatasetError, match="no feature 'action/open_gripper'"):
        check_spec(features, BLOCKS["bridge_dataset"].spec, "x", recipe)


def test_a_broken_version_is_refused():
    assert recipe_for("bc_z", "0.1.0") is BLOCKS["bc_z"].recipe
    with pytest.raises(DatasetError, match=r"'bc_z', version 1.0.1: later versions are broken.*'0.1.0'"):
        recipe_for("bc_z", "1.0.1")
    assert recipe_for("kuka", "9.9.9") is BLOCKS["kuka"].recipe


def test_bridge_is_read_as_it_was_before_there_were_recipes():
    assert BLOCKS["bridge_dataset"].recipe is None
    text = json.dumps(to_dict(BLOCKS["bridge_dataset"].spec), sort_keys=True)
    digest = "334205bc43d332113ccbf61b233d52f6a73dfc27c473521151c4aebe82f3cdf6"
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_a_recipe_is_part_of_the_fingerprint(tmp_path, monkeypatch):
    write_rlds(tmp_path, "bridge_dataset", state_width=7, spec=False)
    block = BLOCKS["bridge_dataset"]
    spec = _tiny(block.spec)
    monkeypatch.setitem(rlds.registry.SPECS, "bridge_dataset", spec)
    before = rlds.open_split(tmp_path, "bridge_dataset", "train")
    assert before.episode(0).num_steps == 6
    recipe = type(block.table)(block.table.action, block.table.state, block.table.language, skip_first=1)
    monkeypatch.setattr(rlds.registry, "recipe_for", lambda name, version: recipe)
    after = rlds.open_split(tmp_path, "bridge_dataset", "train")
    assert after.fingerprint != before.fingerprint
    np.testing.assert_array_equal(after.episode(0).actions, before.episode(0).actions[1:])
    np.testing.assert_array_equal(after.episode(0).rgb(0), before.episode(0).rgb(1))
    # A specification beside the data says what is stored, and no recipe is used then.
    assert rlds.open_split(tmp_path, "bridge_dataset", "train", spec=spec).fingerprint == before.fingerprint


def _tiny(spec):
    camera = dataclasses.replace(spec.cameras[0], rgb_key="observation/image")
    return dataclasses.replace(spec, cameras=(camera,))
