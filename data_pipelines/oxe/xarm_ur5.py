"""xArm and UR5 arms."""

from math import pi

from data_pipelines.oxe.block import (
    CATALOGUE,
    JOINTS_6,
    JOINTS_7,
    NATURAL,
    QUAT,
    RPY,
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
_PEERS = f"as peers; {UNCONFIRMED}"
_YAW_FIRST = (
    "angles are stored as yaw, pitch, roll, and are turned round; peers take them for roll, pitch, yaw"
)

NYU_ROT = block(
    "nyu_rot_dataset_converted_externally_to_rlds",
    "xArm7",
    3.0,
    {"primary": "image"},
    action=(hand("action", 7), gripper("action", 7, 6, ends=_CLOSED)),
    state=columns(_STATE, 7, f"{XYZ} {RPY} gripper_closed"),
    defects=("the catalogue says 0 is open and 1 closed: it is turned round; peers leave it",),
    sources={"action": CATALOGUE},
)

UCSD_KITCHEN = block(
    "ucsd_kitchen_dataset_converted_externally_to_rlds",
    "xArm7",
    2.0,
    {"primary": "image"},
    action=(
        xyz("action", 8, delta=False, scale=0.001),
        rpy("action", 8, 3, delta=False, scale=pi / 180),
        gripper("action", 8, 6),
    ),
    state=columns(_STATE, 21, JOINTS_7),
    defects=(
        "actions are poses in millimetres and degrees, and are scaled; peers take them for changes",
        "the end of an episode is a number of the action: left out",
    ),
    sources={
        "action": f"{CATALOGUE}; units as a public converter of Octo's reading has them",
        "gripper": _PEERS,
    },
)

UCSD_PICK = block(
    "ucsd_pick_and_place_dataset_converted_externally_to_rlds",
    "xArm7",
    3.0,
    {"primary": "image"},
    action=(xyz("action", 4, unit="1"), gripper("action", 4, 3, ends=(1.0, 0.0))),
    state=columns(_STATE, 7, f"{XYZ} {RPY} finger_distance"),
    defects=(
        "velocities are stored, whose unit is not stated: unit 1",
        "the gripper's action is a torque: from 1 on it is taken as open, up to 0 as closed",
        "no rotation: peers fill up with zeros, here it is left out",
        "failures are among the episodes and are kept",
    ),
    sources={"gripper": _PEERS},
)

UTOKYO_XARM = block(
    "utokyo_xarm_pick_and_place_converted_externally_to_rlds",
    "xArm7",
    10.0,
    {"primary": "image", "secondary": "image2", "wrist": "hand_image"},
    action=(
        xyz("action", 7, delta=False),
        rpy("action", 7, 3, delta=False, form="flipped"),
        gripper("action", 7, 6),
    ),
    state=columns("observation/end_effector_pose", 6, f"{XYZ} yaw pitch roll"),
    defects=(_YAW_FIRST, "actions are poses, as the catalogue says; peers take them for changes"),
    sources={"action": CATALOGUE, "gripper": _PEERS},
)


def _arm(side: str, at: int):
    return (
        xyz("action", 14, at, delta=False, side=side),
        rpy("action", 14, at + 3, delta=False, form="flipped", side=side),
        gripper("action", 14, at + 6, side=side),
    )


UTOKYO_XARM_BIMANUAL = block(
    "utokyo_xarm_bimanual_converted_externally_to_rlds",
    "2 xArm7",
    10.0,
    {"primary": "image"},
    action=(_arm("left_", 0), _arm("right_", 7)),
    state=tuple(
        columns(f"observation/pose_{side[0]}", 6, f"{XYZ} yaw pitch roll", side=side)
        for side in ("left_", "right_")
    ),
    defects=(
        _YAW_FIRST,
        "actions are poses, as the catalogue says; peers take them for changes, and the right arm alone",
    ),
    sources={"action": CATALOGUE, "gripper": _PEERS},
)

BERKELEY_MVP = block(
    "berkeley_mvp_converted_externally_to_rlds",
    "xArm7",
    5.0,
    {"primary": "hand_image"},
    action=(joints("action", 8, 7, delta=True), gripper("action", 8, 7, ends=_CLOSED)),
    state=(
        columns("observation/joint_pos", 7, JOINTS_7),
        columns("observation/gripper", 0, "gripper_closed", dtype="bool"),
    ),
    frame="joint",
    defects=("the only camera is at the wrist", "OpenVLA leaves the gripper as it is; Octo turns it round"),
    sources={"action": f"{CATALOGUE}; gripper as Octo", "frame": CATALOGUE},
)

AUTOLAB_UR5 = block(
    "berkeley_autolab_ur5",
    "UR5",
    5.0,
    {
        "primary": View("image", Depth("image_with_depth", picture=True)),
        "wrist": "hand_image",
    },
    action=(
        xyz("action/world_vector"),
        rpy("action/rotation_delta"),
        gripper("action/gripper_closedness_action", 0, ends=(-1.0, 1.0), held=True),
    ),
    state=columns("observation/robot_state", 15, f"{XYZ} {QUAT} gripper_closed", 6),
    language=NATURAL,
    defects=("the gripper's action says close (+1), open (-1) or stay: it is held in between",),
    sources={"action": CATALOGUE, "depth": UNCONFIRMED},
)

PUSHT = block(
    "columbia_cairlab_pusht_real",
    "UR5",
    10.0,
    {"primary": "image", "wrist": "wrist_image"},
    action=(xyz("action/world_vector"), rpy("action/rotation_delta")),
    state=columns("observation/robot_state", 2, "x y"),
    language=NATURAL,
    defects=("a stick pushes: the gripper's action means nothing and is left out",),
    sources={"action": CATALOGUE},
)

ASU_TABLE_TOP = block(
    "asu_table_top_converted_externally_to_rlds",
    "UR5",
    12.5,
    {"primary": "image"},
    action=(hand("action", 7, unit="1"), gripper("action", 7, 6)),
    state=(
        columns("ground_truth_states/EE", 6, f"{XYZ} {RPY}"),
        columns(_STATE, 7, f"{JOINTS_6} gripper"),
    ),
    defects=(
        "the catalogue calls the seven numbers of an action ten velocities; they are taken as peers do",
        "action_delta is stored too and not read",
    ),
    sources={"action": _PEERS},
)

BLOCKS = (
    NYU_ROT,
    UCSD_KITCHEN,
    UCSD_PICK,
    UTOKYO_XARM,
    UTOKYO_XARM_BIMANUAL,
    BERKELEY_MVP,
    AUTOLAB_UR5,
    PUSHT,
    ASU_TABLE_TOP,
)
