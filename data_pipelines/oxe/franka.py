"""Franka arms of several laboratories that peers have in their larger mixtures."""

from data_pipelines.oxe.block import (
    CATALOGUE,
    JOINTS_7,
    NATURAL,
    QUAT,
    RPY,
    STATISTICS,
    UNCONFIRMED,
    XYZ,
    Depth,
    View,
    block,
    columns,
    gripper,
    hand,
    joints,
    rpy,
    xyz,
)

_STATE = "observation/state"
_CLOSED = (0.0, 1.0)
_BOTH = {"primary": "image", "wrist": "wrist_image"}
_VELOCITY = "velocities are stored, whose unit is not stated: unit 1"

TACO_PLAY = block(
    "taco_play",
    "Franka",
    15.0,
    {
        "primary": View("rgb_static", Depth("depth_static")),
        "wrist": View("rgb_gripper", Depth("depth_gripper")),
    },
    action=(
        hand("action/rel_actions_world", 7, unit="1"),
        gripper("action/rel_actions_world", 7, 6, ends=(1.0, -1.0)),
    ),
    state=columns("observation/robot_obs", 15, f"{XYZ} {RPY} gripper_width"),
    language=NATURAL,
    defects=(
        "the catalogue says -1 is open; peers read 1 as open, as CALVIN has it, and so does this",
        "the catalogue names angles yaw, pitch, roll; peers take them in their order, and so does this",
        "changes are scaled: unit 1",
        "peers take the first joint for the gripper's state; here it is its width",
    ),
    sources={"frame": CATALOGUE, "gripper": "Octo and OpenVLA", "depth": UNCONFIRMED},
)

CABLE_ROUTING = block(
    "berkeley_cable_routing",
    "Franka",
    10.0,
    {"primary": "image", "secondary": "top_image", "wrist": "wrist45_image"},
    action=(xyz("action/world_vector", unit="1"), rpy("action/rotation_delta", unit="1")),
    state=columns("observation/robot_state", 7, JOINTS_7),
    language=NATURAL,
    defects=(_VELOCITY, "no gripper: peers fill up with zeros, here it is left out"),
)

TOTO = block(
    "toto",
    "Franka",
    30.0,
    {"primary": "image"},
    action=(
        xyz("action/world_vector", delta=False),
        rpy("action/rotation_delta", delta=False),
        gripper("action/open_gripper", 0, dtype="bool"),
    ),
    state=columns(_STATE, 7, JOINTS_7),
    language=NATURAL,
    defects=("features are called changes and hold poses; peers take them for changes",),
    sources={"action": STATISTICS},
)

HYDRA = block(
    "stanford_hydra_dataset_converted_externally_to_rlds",
    "Franka",
    10.0,
    _BOTH,
    action=(hand("action", 7), gripper("action", 7, 6, ends=_CLOSED)),
    state=(
        columns(_STATE, 27, XYZ),
        columns(_STATE, 27, RPY, 7),
        columns(_STATE, 27, "gripper", 24),
    ),
)

NYU_FRANKA_PLAY = block(
    "nyu_franka_play_dataset_converted_externally_to_rlds",
    "Franka",
    3.0,
    {
        "primary": View("image", Depth("depth", "int32", 0.001, channel=True)),
        "secondary": View(
            "image_additional_view", Depth("depth_additional_view", "int32", 0.001, channel=True)
        ),
    },
    action=(hand("action", 15, 7), gripper("action", 15, 13, ends=(1.0, 0.0))),
    state=(columns(_STATE, 13, XYZ, 7), columns(_STATE, 13, RPY, 10)),
    defects=("joint velocities are stored too and not read", "depth is taken as millimetres"),
    sources={"depth": UNCONFIRMED},
)

MANISKILL = block(
    "maniskill_dataset_converted_externally_to_rlds",
    "Franka in ManiSkill2",
    20.0,
    {
        "primary": View("image", Depth("depth", "uint16", 1 / 1024, picture=True)),
        "wrist": View("wrist_image", Depth("wrist_depth", "uint16", 1 / 1024, picture=True)),
    },
    action=(
        xyz("action", 7, scale=0.1),
        rpy("action", 7, 3, rotation="axis_angle", scale=0.1),
        gripper("action", 7, 6, ends=(1.0, -1.0)),
    ),
    state=(
        columns("observation/tcp_pose", 7, f"{XYZ} qw qx qy qz"),
        columns(_STATE, 18, "finger_0 finger_1", 7),
    ),
    defects=("commands of -1 to 1 stand for 0.1 m and 0.1 rad, and are scaled; peers take them as they are",),
    sources={"action": CATALOGUE, "depth": CATALOGUE},
)

FURNITURE_BENCH = block(
    "furniture_bench_dataset_converted_externally_to_rlds",
    "Franka",
    10.0,
    _BOTH,
    action=(
        xyz("action", 8),
        rpy("action", 8, 3, form="rpy_of_xyzw", count=4),
        gripper("action", 8, 7, ends=(-1.0, 1.0)),
    ),
    state=(columns(_STATE, 35, f"{XYZ} {QUAT}"), columns(_STATE, 35, "gripper_width", 34)),
    defects=("turns are stored as quaternions; they become roll, pitch and yaw",),
    sources={"features": "RLDS builder of the dataset"},
)

CMU_FRANKA_EXPLORATION = block(
    "cmu_franka_exploration_dataset_converted_externally_to_rlds",
    "Franka",
    10.0,
    {"primary": "highres_image"},
    action=(hand("action", 8), gripper("action", 8, 6)),
    defects=(
        "the catalogue calls actions positions; peers read changes, and so does this",
        "the end of an episode is a number of the action: left out",
    ),
    sources={"action": f"peers; {UNCONFIRMED}"},
)

BERKELEY_RPT = block(
    "berkeley_rpt_converted_externally_to_rlds",
    "Franka",
    30.0,
    {"primary": "hand_image"},
    action=(joints("action", 8, 7, delta=True), gripper("action", 8, 7, ends=_CLOSED)),
    state=(
        columns("observation/joint_pos", 7, JOINTS_7),
        columns("observation/gripper", 0, "gripper_closed", dtype="bool"),
    ),
    frame="joint",
    defects=(
        "the only camera is at the wrist",
        "Octo keeps each third step and makes actions of the states; here all are kept, with stored actions",
    ),
    sources={"frame": CATALOGUE},
)

KAIST = block(
    "kaist_nonprehensile_converted_externally_to_rlds",
    "Franka",
    10.0,
    {"primary": "image"},
    action=hand("action", 20, rotation="axis_angle"),
    state=columns(_STATE, 21, f"{XYZ} {QUAT}", 14),
    defects=("no gripper, and gains of the joints' controller: left out",),
    sources={"action": CATALOGUE, "frame": CATALOGUE},
)

ROBOCOOK = block(
    "stanford_robocook_converted_externally_to_rlds",
    "Franka",
    5.0,
    {"primary": View("image_1", Depth("depth_1")), "secondary": View("image_2", Depth("depth_2"))},
    action=(hand("action", 7, unit="1"), gripper("action", 7, 6, delta=True)),
    state=columns(_STATE, 7, f"{XYZ} {RPY} gripper_width"),
    defects=(_VELOCITY, "the gripper's action is a velocity, and stays one", "two of four cameras are read"),
    sources={"action": CATALOGUE, "depth": UNCONFIRMED},
)

IAMLAB = block(
    "iamlab_cmu_pickup_insert_converted_externally_to_rlds",
    "Franka",
    20.0,
    _BOTH,
    action=(
        xyz("action", 8, delta=False),
        rpy("action", 8, 3, delta=False, form="rpy_of_xyzw", count=4),
        gripper("action", 8, 7),
    ),
    state=columns(_STATE, 20, f"{JOINTS_7} gripper"),
    defects=(
        "actions are poses; peers take them for changes",
        "the order of the quaternion is not stated: x, y, z, w as peers have it",
    ),
    sources={"action": f"{CATALOGUE}; {STATISTICS}", "quaternion": UNCONFIRMED},
)

PLAY_FUSION = block(
    "cmu_play_fusion",
    "Franka",
    5.0,
    {"primary": "image"},
    action=(
        xyz("action", 9),
        rpy("action", 9, 3, form="rpy_of_xyzw", count=4),
        gripper("action", 9, 7),
    ),
    state=columns(_STATE, 8, f"{JOINTS_7} gripper_width"),
    defects=(
        "peers take half of the quaternion for angles, and the end of an episode for the gripper; "
        "here the quaternion becomes angles and the gripper is the gripper",
        "the order of the quaternion is not stated: x, y, z, w",
    ),
    sources={"action": CATALOGUE, "quaternion": UNCONFIRMED},
)

PLAYING_WITH_FOOD = block(
    "cmu_playing_with_food",
    "Franka",
    10.0,
    {"primary": "image", "wrist": "finger_vision_1"},
    action=(
        xyz("action", 8),
        rpy("action", 8, 3, form="rpy_of_xyzw", count=4),
        gripper("action", 8, 7),
    ),
    versions=("1.0.0",),
    defects=(
        "the wrist camera looks through the finger's pad",
        "the width of the state could not be confirmed: it is not read",
    ),
    sources={"features": UNCONFIRMED, "quaternion": UNCONFIRMED, "hz": UNCONFIRMED},
)

FMB = block(
    "fmb",
    "Franka",
    10.0,
    {
        "primary": View("image_side_1", Depth("image_side_1_depth")),
        "secondary": View("image_side_2", Depth("image_side_2_depth")),
        "wrist": View("image_wrist_1", Depth("image_wrist_1_depth")),
    },
    action=(hand("action", 7, unit="1"), gripper("action", 7, 6)),
    state=(
        columns("observation/eef_pose", 7, f"{XYZ} {QUAT}"),
        columns("observation/state_gripper_pose", 0, "gripper"),
    ),
    defects=("the unit of actions is not stated: unit 1",),
    sources={"gripper": f"peers; {UNCONFIRMED}", "depth": UNCONFIRMED},
)

FMB_DATASET = FMB.named("fmb_dataset", "the name that Octo and OpenVLA give fmb")

ROBO_SET = block(
    "robo_set",
    "Franka",
    5.0,
    {"primary": "image_left", "secondary": "image_right", "wrist": "image_wrist"},
    action=(joints("action", 8, 7), gripper("action", 8, 7, ends=_CLOSED)),
    state=columns(_STATE, 8, f"{JOINTS_7} gripper"),
    frame="joint",
    defects=("joints are taken as positions to go to; peers call them positions and changes",),
    sources={"action": f"{UNCONFIRMED}; gripper as peers", "frame": "Octo and OpenVLA"},
)

ROBOSET = ROBO_SET.named("roboset", "the name that peers give robo_set")

BLOCKS = (
    TACO_PLAY,
    CABLE_ROUTING,
    TOTO,
    HYDRA,
    NYU_FRANKA_PLAY,
    MANISKILL,
    FURNITURE_BENCH,
    CMU_FRANKA_EXPLORATION,
    BERKELEY_RPT,
    KAIST,
    ROBOCOOK,
    IAMLAB,
    PLAY_FUSION,
    PLAYING_WITH_FOOD,
    FMB,
    FMB_DATASET,
    ROBO_SET,
    ROBOSET,
)
