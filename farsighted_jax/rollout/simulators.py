"""The simulators that run in processes of ours, by name; nothing of theirs is imported here."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from farsighted_jax.core.spec import DatasetSpec
from farsighted_jax.rollout import fetch, libero, metaworld, perturbation
from farsighted_jax.rollout.conventions import CONTROLLERS, Controller
from farsighted_jax.rollout.environment import Environment
from farsighted_jax.rollout.metaworld_tasks import TASK_GROUPS as METAWORLD_GROUPS


@dataclasses.dataclass(frozen=True)
class Simulator:
    """What is known of an environment before there is one.

    Attributes:
      make: makes one, of a resolution, roles of cameras and, where it has them, names of perturbations.
      dataset_spec: of a name and roles of cameras.
      render_settings: of the same, see `Environment.settings`.
      cameras: roles.
      groups: task -> group, for all tasks.
      steps: group -> steps after which an episode has failed, as the field has it.
      resolution: px of its pictures, as the field has it.
      has_expert: whether it can be recorded, and policies be held against a scripted expert.
      controller: lets actions of other datasets be brought over, see `action_map`; None: only its own.
      perturbations: what can be otherwise than in its demonstrations.
      package: what has to be installed.
      install: what is told where it is not; "" where an extra says it.
    """

    make: Callable[..., Environment]
    dataset_spec: Callable[..., DatasetSpec]
    render_settings: Callable[..., dict[str, Any]]
    cameras: tuple[str, ...]
    groups: Mapping[str, str]
    steps: Mapping[str, int]
    resolution: int
    has_expert: bool
    package: str
    perturbations: tuple[str, ...] = ()
    controller: Controller | None = None
    install: str = ""


SIMULATORS = {
    "metaworld": Simulator(
        make=metaworld.MetaWorld,
        dataset_spec=metaworld.dataset_spec,
        render_settings=metaworld.render_settings,
        cameras=tuple(metaworld.CAMERAS),
        groups=METAWORLD_GROUPS,
        steps=dict.fromkeys(METAWORLD_GROUPS.values(), 400),
        resolution=96,
        has_expert=True,
        perturbations=perturbation.NAMES,
        package="metaworld",
    ),
    "fetch": Simulator(
        make=fetch.Fetch,
        dataset_spec=fetch.dataset_spec,
        render_settings=fetch.render_settings,
        cameras=tuple(fetch.CAMERAS),
        groups=fetch.TASK_GROUPS,
        steps={"fetch": fetch.MAX_STEPS},
        resolution=96,
        has_expert=True,
        package="gymnasium_robotics",
    ),
    "libero": Simulator(
        make=libero.Libero,
        dataset_spec=libero.dataset_spec,
        render_settings=libero.render_settings,
        cameras=tuple(libero.CAMERAS),
        groups=libero.TASK_GROUPS,
        steps=libero.SUITES,
        resolution=256,
        has_expert=False,
        package="libero",
        controller=CONTROLLERS["libero"],
        install=libero.INSTALL,
    ),
}
