"""Named mixtures of registered datasets, each with the source of its weights.

Peers' weights count for each step: a dataset's share of the samples is its weight times its steps, which are
counted when it is opened. Datasets that a mixture names twice count once, with the first weight, as at peers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

_OCTO = "Octo, octo/data/oxe/oxe_dataset_mixes.py"
_OPENVLA = "OpenVLA, prismatic/vla/datasets/rlds/oxe/mixtures.py"
_UNIVLA = "UniVLA, prismatic/vla/datasets/rlds/oxe/mixtures.py"


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Datasets and their weights.

    Attributes:
      weights: dataset -> weight > 0.
      source: where all of its weights are from.
      optional: datasets that may be absent.
      per_step: whether weights are multiplied by the datasets' steps; else they are shares of the samples.
    """

    weights: Mapping[str, float]
    source: str
    optional: frozenset[str] = frozenset()
    per_step: bool = True


def _long(**weights: float) -> dict[str, float]:
    return {f"{name}_converted_externally_to_rlds": weight for name, weight in weights.items()}


def _without(weights: Mapping[str, float], *names: str) -> dict[str, float]:
    return {name: weight for name, weight in weights.items() if name not in names}


_BRIDGES = ("bridge_dataset", "bridge_orig", "bridge_oxe")


def _bridge(weights: Mapping[str, float], name: str) -> dict[str, float]:
    """The same with another copy of Bridge in its place."""
    return {name if key in _BRIDGES else key: weight for key, weight in weights.items()}


_RTX = {
    "fractal20220817_data": 0.54087122203,
    "kuka": 0.8341046294,
    "bridge_dataset": 1.0,
    "taco_play": 2.0,
    "jaco_play": 2.0,
    "berkeley_cable_routing": 3.0,
    "roboturk": 1.0,
    "nyu_door_opening_surprising_effectiveness": 5.0,
    "viola": 2.0,
    "berkeley_autolab_ur5": 1.0,
    "toto": 1.0,
}
_FRANKA = {
    "taco_play": 1.0,
    "berkeley_cable_routing": 1.0,
    "viola": 1.0,
    "toto": 1.0,
    **_long(
        stanford_hydra_dataset=1.0,
        austin_buds_dataset=3.0,
        nyu_franka_play_dataset=3.0,
        maniskill_dataset=0.1,
        furniture_bench_dataset=0.1,
        cmu_franka_exploration_dataset=5.0,
        austin_sailor_dataset=1.0,
        austin_sirius_dataset=1.0,
        berkeley_rpt=1.0,
        kaist_nonprehensile=3.0,
        stanford_robocook=1.0,
        iamlab_cmu_pickup_insert=1.0,
    ),
    "utaustin_mutex": 1.0,
    "cmu_play_fusion": 1.0,
}
_SOUP = {
    "fractal20220817_data": 0.54087122203,
    "kuka": 0.8341046294,
    "bridge_dataset": 1.0,
    "taco_play": 2.0,
    "jaco_play": 1.0,
    "berkeley_cable_routing": 1.0,
    "roboturk": 2.0,
    "nyu_door_opening_surprising_effectiveness": 1.0,
    "viola": 2.0,
    "berkeley_autolab_ur5": 2.0,
    "toto": 1.0,
    "language_table": 0.1,
    **_long(
        stanford_hydra_dataset=2.0,
        austin_buds_dataset=1.0,
        nyu_franka_play_dataset=3.0,
        furniture_bench_dataset=0.1,
        ucsd_kitchen_dataset=2.0,
        austin_sailor_dataset=1.0,
        austin_sirius_dataset=1.0,
    ),
    "bc_z": 0.2,
    **_long(dlr_edan_shared_control=1.0, iamlab_cmu_pickup_insert=1.0),
    "utaustin_mutex": 1.0,
    "berkeley_fanuc_manipulation": 2.0,
    "cmu_stretch": 1.0,
}
_FLEXIBLE = _SOUP | {
    **_long(berkeley_mvp=1.0),
    "gnm_dataset": 1.0,
    "aloha_static_dataset": 3.0,
    "aloha_mobile_dataset": 2.0,
    "dobbe": 1.0,
    "roboset": 0.5,
    "rh20t": 0.5,
}
_FULL = dict.fromkeys(
    [
        *_RTX,
        "language_table",
        "columbia_cairlab_pusht_real",
        *_long(
            stanford_kuka_multimodal_dataset=1,
            nyu_rot_dataset=1,
            stanford_hydra_dataset=1,
            austin_buds_dataset=1,
            nyu_franka_play_dataset=1,
            maniskill_dataset=1,
            furniture_bench_dataset=1,
            cmu_franka_exploration_dataset=1,
            ucsd_kitchen_dataset=1,
            ucsd_pick_and_place_dataset=1,
            austin_sailor_dataset=1,
            austin_sirius_dataset=1,
        ),
        "bc_z",
        *_long(
            utokyo_pr2_opening_fridge=1,
            utokyo_pr2_tabletop_manipulation=1,
            utokyo_xarm_pick_and_place=1,
            utokyo_xarm_bimanual=1,
        ),
        "robo_net",
        *_long(
            berkeley_mvp=1,
            berkeley_rpt=1,
            kaist_nonprehensile=1,
            stanford_mask_vit=1,
            tokyo_u_lsmo=1,
            dlr_sara_pour=1,
            dlr_sara_grid_clamp=1,
            dlr_edan_shared_control=1,
            asu_table_top=1,
            stanford_robocook=1,
        ),
        "imperialcollege_sawyer_wrist_cam",
        *_long(iamlab_cmu_pickup_insert=1),
        "uiuc_d3field",
        "utaustin_mutex",
        "berkeley_fanuc_manipulation",
        "cmu_playing_with_food",
        "cmu_play_fusion",
        "cmu_stretch",
        "gnm_dataset",
    ],
    1.0,
)

_WRIST = "nyu_door_opening_surprising_effectiveness"
_OPENVLA_RTX = _bridge(_without(_RTX, _WRIST), "bridge_orig")
_OPENVLA_SOUP = _bridge(_without(_SOUP, _WRIST, "bc_z"), "bridge_orig")
_PLUS = _OPENVLA_SOUP | {"bc_z": 0.2, "fmb_dataset": 1.0, "dobbe": 0.2, "droid": 0.06}
_VEHICLES = ("berkeley_gnm_recon", "berkeley_gnm_cory_hall", "berkeley_gnm_sac_son")
_EGO4D = tuple(f"ego4d_split_{split}" for split in (1, 2, 3, 4))
_OMNI = (
    _without(_bridge(_PLUS, "bridge_oxe"), "droid", "fmb_dataset", "dobbe")
    | {"fractal20220817_data": 0.5, "kuka": 0.1, "fmb": 1.0, "dobbe": 0.2}
)  # fmt: skip
_LAM = _without(_bridge(_OMNI, "bridge_dataset"), "dobbe") | {"droid": 0.06} | dict.fromkeys(_EGO4D, 1.0)

MIXTURES: dict[str, Mixture] = {
    "bridge": Mixture({"bridge_dataset": 1.0}, _OCTO),
    "bridge_rt_1": Mixture({"bridge_orig": 1.0, "fractal20220817_data": 1.0}, _OPENVLA),
    "octo_rtx": Mixture(_RTX, _OCTO),
    "octo_rtx_franka": Mixture(_RTX | _without(_FRANKA, *_RTX), _OCTO),
    "octo_magic_soup": Mixture(_SOUP, _OCTO),
    "octo_flex_act_soup": Mixture(_FLEXIBLE, _OCTO),
    "octo_full": Mixture(_FULL, f"{_OCTO}, OXE_FULL_MIX"),
    "rtx": Mixture(_OPENVLA_RTX, _OPENVLA),
    "rtx_franka": Mixture(_OPENVLA_RTX | _without(_FRANKA, *_OPENVLA_RTX), _OPENVLA),
    "oxe_magic_soup": Mixture(_OPENVLA_SOUP, _OPENVLA),
    "oxe_magic_soup_plus": Mixture(_PLUS, _OPENVLA),
    "oxe_magic_soup_plus_minus": Mixture(
        _without(_PLUS, "language_table", "droid") | {"fractal20220817_data": 1.0}, _OPENVLA
    ),
    "omni_magic_soup_plus": Mixture(_OMNI | dict.fromkeys(_VEHICLES, 1.0), _UNIVLA),
    "omni_magic_soup_plus_plus": Mixture(
        _OMNI | dict.fromkeys(_VEHICLES, 2.0) | dict.fromkeys(_EGO4D, 1.0), _UNIVLA
    ),
    "ego4d": Mixture(dict.fromkeys(_EGO4D, 1.0), _UNIVLA),
    "lam": Mixture(
        _LAM,
        "this project, for latent actions, which need no actions: UniVLA's omni_magic_soup_plus_plus without "
        "vehicles and hand-held cameras, with bridge_dataset for bridge_oxe, and DROID as OpenVLA weighs it",
        optional=frozenset({*_EGO4D, "droid"}),
    ),
}
