"""Vehicles (GNM), two arms at once (ALOHA), and people without any robot (Ego4D as UniVLA cuts it)."""

from data_pipelines.oxe.block import (
    OCTO,
    UNCONFIRMED,
    UNIVLA,
    Block,
    block,
    columns,
    gripper,
    joints,
)

_STATE = "observation/state"
_POSE = {"delta": True, "dtype": "float64"}
_WRISTS = {"wrist": "cam_right_wrist", "left_wrist": "cam_left_wrist"}


def _vehicle(name: str, robot: str, rate: float, *defects: str, **sources: str) -> Block:
    return block(
        name,
        robot,
        rate,
        {"primary": "image"},
        action=(
            columns(_STATE, 3, "ahead left", count=3, form="drive", group="translation", unit="m", **_POSE),
            columns(_STATE, 3, "yaw", 2, form="turn", group="rotation", unit="rad", rotation="rpy", **_POSE),
        ),
        state=columns(_STATE, 3, "x y yaw", dtype="float64"),
        frame="tool",
        defects=(
            "actions are made of the places that were reached, seen from the vehicle, as Octo does, but for "
            "each step and not scaled; stored actions are waypoints, not read",
            "there is no instruction to speak of",
            "the unit of places differs from set to set: metres are assumed",
            *defects,
        ),
        sources={"action": OCTO, "frame": OCTO, "unit": UNCONFIRMED} | sources,
    )


def _side(key: str, width: int, side: str, at: int):
    return (
        joints(key, width, 6, at, side=side),
        gripper(key, width, at + 6, side=side),
    )


def _aloha(name: str, cameras: dict[str, str], width: int, *defects: str, **sources: str) -> Block:
    base = columns("action", width, "base_ahead base_turn", 14) if width == 16 else ()
    return block(
        name,
        "Mobile ALOHA" if width == 16 else "ALOHA",
        50.0,
        cameras,
        action=(_side("action", width, "left_", 0), _side("action", width, "right_", 7), base),
        state=(_side(_STATE, 14, "left_", 0), _side(_STATE, 14, "right_", 7)),
        frame="joint",
        versions=("0.1.0",) if width == 16 else ("1.0.0",),
        defects=(
            "Octo keeps each fifth step of 50 a second; here all are kept",
            *defects,
        ),
        sources={"action": f"ALOHA's recorder; {OCTO}", "frame": OCTO} | sources,
    )


def _ego4d(split: int) -> Block:
    return block(
        f"ego4d_split_{split}",
        "people's hands",
        2.0,
        {"primary": "image"},
        versions=("1.0.0",),
        defects=(
            "video without actions: stored actions and states are place holders",
            "each fifteenth frame of 30 a second",
        ),
        sources={
            "features": "UniVLA's RLDS builder",
            "cameras": UNIVLA,
            "action": UNIVLA,
            "frame": "none",
            "hz": "UniVLA's RLDS builder",
        },
    )


ALOHA_MOBILE = _aloha(
    "aloha_mobile",
    {"primary": "cam_high", **_WRISTS},
    16,
    "velocities of the base are unit 1",
)

_LOW = {"primary": "cam_high", "secondary": "cam_low", **_WRISTS}
_OURS = {"features": f"{OCTO}; {UNCONFIRMED}"}

BLOCKS = (
    _vehicle("berkeley_gnm_recon", "Jackal", 3.0),
    _vehicle("berkeley_gnm_cory_hall", "RC car", 5.0),
    _vehicle("berkeley_gnm_sac_son", "robot on a vacuum cleaner", 10.0),
    _vehicle(
        "gnm_dataset",
        "several vehicles",
        10.0,
        "as Octo's authors joined it, not published; rates differ within",
        features=f"{OCTO}; {UNCONFIRMED}",
        hz=UNCONFIRMED,
    ),
    ALOHA_MOBILE,
    ALOHA_MOBILE.named("aloha_mobile_dataset", "the name that Octo gives aloha_mobile"),
    _aloha("aloha_static_dataset", _LOW, 14, **_OURS),
    _aloha("aloha_dagger_dataset", _LOW, 14, "the policy's own runs, corrected, are among it", **_OURS),
    *map(_ego4d, (1, 2, 3, 4)),
)
