"""Datasets of Google's robots: RT-1, QT-Opt, BC-Z, Language Table."""

from data_pipelines.oxe.block import (
    CATALOGUE,
    NATURAL,
    PEERS,
    QUAT,
    XYZ,
    block,
    columns,
    gripper,
    rpy,
    xyz,
)

_RELATIVE = "the gripper's action says close (+1), open (-1) or stay: it is held in between"

FRACTAL = block(
    "fractal20220817_data",
    "Google Robot",
    3.0,
    {"primary": "image"},
    action=(
        xyz("action/world_vector"),
        rpy("action/rotation_delta"),
        gripper("action/gripper_closedness_action", ends=(-1.0, 1.0), held=True),
    ),
    state=(
        columns("observation/base_pose_tool_reached", 7, f"{XYZ} {QUAT}"),
        columns("observation/gripper_closed", 1, "gripper_closed"),
    ),
    language=NATURAL,
    defects=(_RELATIVE, "moves of the base are left out"),
    sources={"frame": CATALOGUE},
)

KUKA = block(
    "kuka",
    "Kuka iiwa",
    10.0,
    {"primary": "image"},
    action=(
        xyz("action/world_vector"),
        rpy("action/rotation_delta"),
        gripper("action/gripper_closedness_action", ends=(-1.0, 1.0), held=True),
    ),
    state=(
        columns("observation/clip_function_input/base_pose_tool_reached", 7, f"{XYZ} {QUAT}"),
        columns("observation/gripper_closed", 1, "gripper_closed"),
    ),
    language=NATURAL,
    defects=(
        _RELATIVE,
        "failed grasps are among the episodes and are kept",
        "one instruction for all episodes",
    ),
)

BC_Z = block(
    "bc_z",
    "Google Robot",
    10.0,
    {"primary": "image"},
    action=(
        xyz("action/future/xyz_residual", 30),
        rpy("action/future/axis_angle_residual", 30, rotation="axis_angle"),
        gripper("action/future/target_close", 10, ends=(0.0, 1.0), dtype="int64"),
    ),
    state=(
        columns("observation/present/xyz", 3, XYZ),
        columns("observation/present/axis_angle", 3, "turn_x turn_y turn_z"),
        columns("observation/present/sensed_close", 1, "gripper_closed"),
    ),
    language=NATURAL,
    pinned="later versions are broken (OpenVLA's mixtures say so)",
    defects=(
        "ten steps ahead are stored: the first is taken",
        "rotations are changes of an axis-angle vector, number by number; peers take them for Euler angles",
    ),
    sources={"action": CATALOGUE, "frame": CATALOGUE, "versions": "OpenVLA's mixtures"},
)

LANGUAGE_TABLE = block(
    "language_table",
    "xArm6",
    10.0,
    {"primary": "rgb"},
    action=columns("action", 2, "x y", unit="m", group="translation", delta=True),
    state=columns("observation/effector_translation", 2, "x y"),
    language="observation/instruction",
    codepoints=True,
    versions=("0.0.1", "0.1.0"),
    defects=(
        "instructions are stored as numbers of characters: they are decoded",
        "no rotation and no gripper: peers fill up with zeros and an open one, here they are left out",
    ),
    sources={"features": "features.json", "action": PEERS},
)

BLOCKS = (FRACTAL, KUKA, BC_Z, LANGUAGE_TABLE)
