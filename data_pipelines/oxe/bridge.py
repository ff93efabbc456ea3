"""BridgeData V2: WidowX 250 in toy kitchens, teleoperated at 5 Hz."""

from data_pipelines.oxe.block import NATURAL, OPENVLA, RPY, XYZ, block, columns, gripper, hand, rpy, xyz

_WALKE = "Walke et al., 2023"
_STATE = "observation/state"

BRIDGE_DATASET = block(
    "bridge_dataset",
    "WidowX 250",
    5.0,
    {"primary": "image_0", "secondary": "image_1"},
    action=(hand("action", 7), gripper("action", 7, 6)),
    state=columns(_STATE, 7, f"{XYZ} {RPY} gripper"),
    versions=("1.0.0",),
    defects=(
        "actions are commands, as stored; Octo and OpenVLA put the changes of the state in their place "
        "and leave out the first step, whose action is zero",
    ),
    note=(
        "Walke et al., 2023 (BridgeData V2, CC BY 4.0); actions are changes of the end-effector pose in the "
        "robot's base frame, as are the differences of the state; gripper 1 = open"
    ),
    sources={"features": "features.json of version 1.0.0", "action": _WALKE, "frame": _WALKE, "hz": _WALKE},
)

BRIDGE_ORIG = BRIDGE_DATASET.named("bridge_orig", "the name that OpenVLA gives bridge_dataset")

BRIDGE_OXE = block(
    "bridge_oxe",
    "WidowX 250",
    5.0,
    {"primary": "image"},
    action=(
        xyz(_STATE, 7, form="change"),
        rpy(_STATE, 7, 3, form="turn"),
        gripper("action/open_gripper", 0, dtype="bool"),
    ),
    state=columns(_STATE, 7, f"{XYZ} {RPY} gripper"),
    language=NATURAL,
    skip_first=1,
    defects=(
        "Open X's own copy, called bridge there; OpenVLA and UniVLA rename it",
        "the first step's action is zero: that step is left out",
        "actions are made of the states that were reached, as peers do",
    ),
    sources={"action": OPENVLA, "frame": _WALKE, "hz": _WALKE},
)

BLOCKS = (BRIDGE_DATASET, BRIDGE_ORIG, BRIDGE_OXE)
