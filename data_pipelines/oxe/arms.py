"""Other arms: Jaco, Sawyer, Stretch, Kuka, PR2, Cobotta, DLR's, Kinova, Fanuc, and a gripper held by hand."""

from data_pipelines.oxe.block import (
    CATALOGUE,
    JOINTS_6,
    NATURAL,
    OCTO,
    QUAT,
    RPY,
    UNCONFIRMED,
    XYZ,
    Block,
    Depth,
    View,
    block,
    columns,
    gripper,
    hand,
    rpy,
    xyz,
)

_STATE = "observation/state"
_CLOSED = (0.0, 1.0)
_PEERS = f"as peers; {UNCONFIRMED}"
_END = "the end of an episode is a number of the action: left out"
_RELATIVE = "the gripper's action says close (+1), open (-1) or stay: it is held in between"
_POSITIONS = "the catalogue calls actions positions; peers read changes, and so does this"
_RDT = "RDT's reading of the data"

JACO_PLAY = block(
    "jaco_play",
    "Jaco 2",
    10.0,
    {"primary": "image", "wrist": "image_wrist"},
    action=(
        xyz("action/world_vector", unit="1"),
        gripper("action/gripper_closedness_action", 1, ends=(-1.0, 1.0), held=True),
    ),
    state=columns("observation/end_effector_cartesian_pos", 7, f"{XYZ} {QUAT}"),
    language=NATURAL,
    defects=(
        _RELATIVE,
        "no rotation: peers fill up with zeros, here it is left out",
        "peers take the state for angles and a gripper; it is a pose with a quaternion",
        "the unit of actions is not stated: unit 1",
    ),
    sources={"state": _RDT},
)

ROBOTURK = block(
    "roboturk",
    "Sawyer",
    10.0,
    {"primary": "front_rgb"},
    action=(
        xyz("action/world_vector"),
        rpy("action/rotation_delta"),
        gripper("action/gripper_closedness_action", ends=_CLOSED),
    ),
    language=NATURAL,
)

NYU_DOOR = block(
    "nyu_door_opening_surprising_effectiveness",
    "Hello Stretch",
    3.0,
    {"primary": "image"},
    action=(
        xyz("action/world_vector", unit="1"),
        rpy("action/rotation_delta", unit="1"),
        gripper("action/gripper_closedness_action", ends=(-1.0, 1.0), held=True),
    ),
    language=NATURAL,
    defects=(_RELATIVE, "the only camera is at the wrist", "velocities without a unit: unit 1"),
)

STANFORD_KUKA = block(
    "stanford_kuka_multimodal_dataset_converted_externally_to_rlds",
    "Kuka iiwa",
    20.0,
    {"primary": View("image", Depth("depth_image", channel=True))},
    action=xyz("action", 4),
    state=(columns("observation/ee_position", 3, XYZ), columns("observation/ee_orientation", 4, QUAT)),
    defects=(
        _POSITIONS,
        "the gripper holds a peg throughout: its number, within +-0.15, is left out",
        "no rotation: peers fill up with zeros, here it is left out",
    ),
    sources={"action": f"peers; {_RDT}", "quaternion": UNCONFIRMED, "depth": UNCONFIRMED},
)


def _pr2(name: str) -> Block:
    return block(
        name,
        "PR2",
        10.0,
        {"primary": "image"},
        action=(xyz("action", 8, scale=0.001), rpy("action", 8, 3), gripper("action", 8, 6)),
        state=(columns(_STATE, 7, XYZ, scale=0.001), columns(_STATE, 7, f"{RPY} gripper", 3)),
        defects=("places are stored in millimetres, and are scaled", _POSITIONS, _END),
        sources={"action": f"peers; millimetres by {_RDT}", "gripper": _PEERS},
    )


ROBO_NET = block(
    "robo_net",
    "seven kinds of arm",
    1.0,
    {"primary": "image", "secondary": "image1"},
    action=(
        xyz("action", 5, unit="1"),
        columns("action", 5, "yaw", 3, unit="1", group="rotation", delta=True, rotation="rpy"),
        gripper("action", 5, 4, ends=(-1.0, 1.0)),
    ),
    state=columns(_STATE, 5, f"{XYZ} yaw gripper"),
    versions=("1.0.0",),
    defects=(
        "yaw alone: peers fill up roll and pitch with zeros, here they are left out",
        "scales differ from robot to robot: unit 1",
        "actions are chosen at random, there is no instruction to speak of",
    ),
    sources={"features": "RLDS builder of the dataset", "gripper": _RDT},
)

MASK_VIT = block(
    "stanford_mask_vit_converted_externally_to_rlds",
    "Sawyer",
    1.0,
    {"primary": "image"},
    action=(
        xyz("action", 5),
        columns("action", 5, "yaw", 3, unit="rad", group="rotation", delta=True, rotation="rpy"),
        gripper("action", 5, 4, ends=(-1.0, 1.0)),
    ),
    state=columns("observation/end_effector_pose", 5, f"{XYZ} yaw gripper"),
    defects=(
        "the rate is nowhere stated: 1 is a place holder, and gaps in seconds mean steps",
        "peers leave the gripper as it is; the catalogue says -1 opens and 1 closes",
        "places of the state are scaled between bounds that are stored and not read",
    ),
    sources={"action": CATALOGUE, "hz": UNCONFIRMED},
)

TOKYO_LSMO = block(
    "tokyo_u_lsmo_converted_externally_to_rlds",
    "Cobotta",
    10.0,
    {"primary": "image"},
    action=(hand("action", 7), gripper("action", 7, 6)),
    state=columns(_STATE, 13, f"{XYZ} {RPY} {JOINTS_6} gripper"),
    defects=(_POSITIONS,),
    sources={"gripper": _PEERS},
)


def _dlr(name: str, robot: str, hz: float, width: int, polarity: str) -> Block:
    return block(
        name,
        robot,
        hz,
        {"primary": "image"},
        action=(
            xyz("action", 7),
            rpy("action", 7, 3, form="rpy_of_zxy"),
            gripper("action", 7, 6, ends=_CLOSED),
        ),
        state=columns(_STATE, width, f"{XYZ} turn_z turn_x turn_y"),
        defects=(
            "angles are turns about z, x and y, and become roll, pitch, yaw; peers take them for those",
            _POSITIONS,
            "the catalogue says nothing of the seventh number: it is the gripper, 1 = closed",
        ),
        sources={"rotation": CATALOGUE, "gripper": polarity},
    )


IMPERIAL_WRIST = block(
    "imperialcollege_sawyer_wrist_cam",
    "Sawyer",
    10.0,
    {"primary": "image"},
    action=(xyz("action", 8), rpy("action", 8, 3, form="flipped"), gripper("action", 8, 6)),
    state=columns(_STATE, 1, "gripper"),
    frame="tool",
    defects=(
        "angles are about Z, Y and X, and are turned round; peers take them for roll, pitch, yaw",
        "image and wrist_image are the same camera, at the wrist",
        _END,
    ),
    sources={"action": CATALOGUE, "frame": CATALOGUE, "gripper": _PEERS},
)

D3FIELD = block(
    "uiuc_d3field",
    "Kinova Gen3",
    1.0,
    {
        "primary": View("image_1", Depth("depth_1", "uint16", 0.001, picture=True)),
        "secondary": View("image_2", Depth("depth_2", "uint16", 0.001, picture=True)),
    },
    action=xyz("action", 3),
    defects=(
        "Octo and OpenVLA say that the raw data are broken: no mixture has it",
        "the state is a matrix of 4 x 4, and is not read",
        "no rotation and no gripper: left out",
    ),
    sources={"action": CATALOGUE, "depth": f"{UNCONFIRMED}: taken as millimetres"},
)

FANUC = block(
    "berkeley_fanuc_manipulation",
    "Fanuc Mate",
    10.0,
    {"primary": "image", "wrist": "wrist_image"},
    action=(hand("action", 6), gripper(_STATE, 13, 6, ends=_CLOSED)),
    state=columns(_STATE, 13, f"{JOINTS_6} gripper_closed"),
    defects=(
        "no gripper action is stored: the state of the same step is taken",
        "the catalogue calls it open status; peers read 1 as closed, and so does this",
    ),
)

CMU_STRETCH = block(
    "cmu_stretch",
    "Hello Stretch",
    10.0,
    {"primary": "image"},
    action=(hand("action", 8), gripper("action", 8, 6)),
    state=columns(_STATE, 4, f"{XYZ} gripper"),
    defects=(_POSITIONS, _END),
)

DOBBE = block(
    "dobbe",
    "hand-held gripper",
    30.0,
    {"primary": "wrist_image"},
    action=(hand("action", 7), gripper("action", 7, 6)),
    state=columns(_STATE, 7, f"{XYZ} {RPY} gripper"),
    defects=("the only camera is at the wrist",),
    sources={"gripper": _PEERS},
)

RH20T = block(
    "rh20t",
    "four kinds of arm",
    10.0,
    {"primary": "image_front", "secondary": "image_side_right", "wrist": "image_wrist"},
    action=(hand("action/tcp_base", 6, delta=False), gripper("action/gripper", 0)),
    state=(
        columns("observation/tcp_base", 6, f"{XYZ} {RPY}"),
        columns("observation/gripper_width", 0, "gripper_width"),
    ),
    versions=("1.0.0",),
    defects=("as Octo's authors converted it, which is not published: widths and dtypes are unconfirmed",),
    sources={"features": f"{OCTO}; {UNCONFIRMED}", "gripper": _PEERS},
)

MUJOCO_MANIP = block(
    "mujoco_manip",
    "Franka in MuJoCo",
    10.0,
    {"primary": "image"},
    action=(hand("action", 7), gripper("action", 7, 6, ends=(0.0, 255.0))),
    versions=("1.0.0",),
    defects=("not published: features, units and rate are unconfirmed",),
    sources={"features": UNCONFIRMED, "cameras": OCTO, "action": OCTO, "hz": UNCONFIRMED},
)

BLOCKS = (
    JACO_PLAY,
    ROBOTURK,
    NYU_DOOR,
    STANFORD_KUKA,
    _pr2("utokyo_pr2_opening_fridge_converted_externally_to_rlds"),
    _pr2("utokyo_pr2_tabletop_manipulation_converted_externally_to_rlds"),
    ROBO_NET,
    MASK_VIT,
    TOKYO_LSMO,
    _dlr("dlr_sara_pour_converted_externally_to_rlds", "DLR SARA", 10.0, 6, _RDT),
    _dlr("dlr_sara_grid_clamp_converted_externally_to_rlds", "DLR SARA", 10.0, 12, UNCONFIRMED),
    _dlr("dlr_edan_shared_control_converted_externally_to_rlds", "DLR EDAN", 5.0, 7, "Octo and OpenVLA"),
    IMPERIAL_WRIST,
    D3FIELD,
    FANUC,
    CMU_STRETCH,
    DOBBE,
    RH20T,
    MUJOCO_MANIP,
)
