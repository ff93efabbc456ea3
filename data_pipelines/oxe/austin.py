"""Franka arms of the University of Texas at Austin, and of LIBERO, which has the same controller."""

from data_pipelines.oxe.block import (
    JOINTS_7,
    NATURAL,
    OPENVLA,
    QUAT,
    UNIVLA,
    XYZ,
    block,
    columns,
    gripper,
    hand,
    rpy,
    xyz,
)

_STATE = "observation/state"
_CLOSED = (0.0, 1.0)
_SCALE = "commands of an operational-space controller: scale and units are its own, and not stored"
_BOTH = {"primary": "image", "wrist": "wrist_image"}
_ACTION = (hand("action", 7, unit="1"), gripper("action", 7, 6, ends=_CLOSED))

VIOLA = block(
    "viola",
    "Franka",
    20.0,
    {"primary": "agentview_rgb", "wrist": "eye_in_hand_rgb"},
    action=(
        xyz("action/world_vector", unit="1"),
        rpy("action/rotation_delta", unit="1"),
        gripper("action/gripper_closedness_action", 0, ends=_CLOSED),
    ),
    state=(
        columns("observation/joint_states", 7, JOINTS_7),
        columns("observation/gripper_states", 1, "gripper_width"),
    ),
    language=NATURAL,
    defects=(_SCALE,),
)

BUDS = block(
    "austin_buds_dataset_converted_externally_to_rlds",
    "Franka",
    20.0,
    _BOTH,
    action=_ACTION,
    state=columns(_STATE, 24, f"{JOINTS_7} gripper_width"),
    defects=(_SCALE,),
)

SAILOR = block(
    "austin_sailor_dataset_converted_externally_to_rlds",
    "Franka",
    20.0,
    _BOTH,
    action=_ACTION,
    state=columns(_STATE, 8, f"{XYZ} {QUAT} gripper_width"),
    defects=(_SCALE, "the catalogue counts three numbers of the quaternion: there are four"),
)

SIRIUS = block(
    "austin_sirius_dataset_converted_externally_to_rlds",
    "Franka",
    20.0,
    _BOTH,
    action=_ACTION,
    state=columns(_STATE, 8, f"{JOINTS_7} gripper_width"),
    defects=(
        _SCALE,
        "peers take the state for a pose and a quaternion; the catalogue says joints",
        "the robot's own runs and corrections are among the episodes and are kept",
    ),
    sources={"state": "TFDS catalogue"},
)

MUTEX = block(
    "utaustin_mutex",
    "Franka",
    20.0,
    _BOTH,
    action=_ACTION,
    state=columns(_STATE, 24, f"{JOINTS_7} gripper_width"),
    defects=(_SCALE, "instructions are long"),
)


def _libero(name: str, of: str) -> object:
    return block(
        name,
        "Franka in LIBERO",
        20.0,
        _BOTH,
        action=(hand("action", 7, unit="1", rotation="axis_angle"), gripper("action", 7, 6, ends=_CLOSED)),
        state=columns(_STATE, 8, f"{XYZ} turn_x turn_y turn_z finger_0 finger_1"),
        versions=("1.0.0",),
        defects=(_SCALE, "pictures were turned and steps without motion left out when it was made"),
        sources={
            "features": of,
            "cameras": of,
            "action": of,
            "frame": "robosuite's controller",
            "hz": "control_freq of LIBERO's environments",
        },
    )


_SUITES = ("spatial", "object", "goal", "10")
_PARTS = ("10_no_noops_mini", "goal_no_noops_mini", "10_no_noops_half", "goal_no_noops_half")
_PARTS += ("10_no_noops_quad", "goal_no_noops_quad", "combined")

BLOCKS = (
    VIOLA,
    BUDS,
    SAILOR,
    SIRIUS,
    MUTEX,
    *(_libero(f"libero_{suite}_no_noops", OPENVLA) for suite in _SUITES),
    *(_libero(f"libero_{part}", UNIVLA) for part in _PARTS),
)
