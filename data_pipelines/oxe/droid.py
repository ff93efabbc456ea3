"""DROID: Franka arms in many rooms, teleoperated at 15 Hz; and Toyota's T-DROID, which has the same robot."""

from data_pipelines.oxe.block import OPENVLA, RPY, XYZ, Block, block, columns, gripper, hand

_KHAZATSKY = "Khazatsky et al., 2024"
_INSTRUCTIONS = ("language_instruction", "language_instruction_2", "language_instruction_3")
_ACTION = (
    hand("action_dict/cartesian_velocity", 6, unit="1", dtype="float64"),
    gripper("action_dict/gripper_position", 1, ends=(0.0, 1.0), dtype="float64"),
)
_STATE = (
    columns("observation/cartesian_position", 6, f"{XYZ} {RPY}", dtype="float64"),
    columns("observation/gripper_position", 1, "gripper_closed", dtype="float64"),
)
_VELOCITY = "actions are velocity commands of -1 to 1: unit 1"

DROID = block(
    "droid",
    "Franka",
    15.0,
    {"primary": "exterior_image_1_left", "secondary": "exterior_image_2_left", "wrist": "wrist_image_left"},
    _ACTION,
    _STATE,
    _INSTRUCTIONS,
    versions=("1.0.0", "1.0.1"),
    defects=(
        _VELOCITY,
        "many episodes have no instruction: theirs is empty",
        "peers exchange the two outer cameras at random and leave out steps without motion; here all stay",
    ),
    sources={
        "features": "RLDS builder of the dataset",
        "cameras": OPENVLA,
        "action": f"{OPENVLA}; {_KHAZATSKY}",
        "frame": OPENVLA,
        "hz": _KHAZATSKY,
    },
)

DROID_WIPE = block(
    "droid_wipe",
    "Franka",
    15.0,
    {"primary": "exterior_image_2_left", "wrist": "wrist_image_left"},
    _ACTION,
    _STATE,
    versions=("1.0.0",),
    defects=(_VELOCITY,),
    sources={
        "features": "as droid; unconfirmed",
        "cameras": OPENVLA,
        "action": OPENVLA,
        "frame": OPENVLA,
        "hz": _KHAZATSKY,
    },
)


def _tdroid(task: str) -> Block:
    return block(
        f"tdroid_{task}",
        "Franka",
        5.0,
        {"primary": "static_image"},
        (hand("action", 7, unit="1"), gripper("action", 7, 6)),
        (
            columns("observation/cartesian_position", 6, f"{XYZ} {RPY}"),
            columns("observation/gripper_position", 1, "gripper"),
        ),
        versions=("1.0.0",),
        defects=(
            "not published: dtypes and the unit of actions could not be confirmed",
            "depth of the static camera is stored; its unit is unknown, and it is not read",
        ),
        sources={
            "features": "OpenVLA's oxe configuration; dtypes unconfirmed",
            "cameras": OPENVLA,
            "action": OPENVLA,
            "hz": OPENVLA,
        },
    )


_TASKS = ("carrot_in_bowl", "pour_corn_in_pot", "flip_pot_upright")
_TASKS += ("move_object_onto_plate", "knock_object_over", "cover_object_with_towel")

BLOCKS = (DROID, DROID_WIPE, *map(_tdroid, _TASKS))
