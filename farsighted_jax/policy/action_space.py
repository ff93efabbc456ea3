"""Action spaces of several robots in one chunk: padded to the widest, with masks of what is real."""

from __future__ import annotations

import dataclasses

import jax.numpy as jnp
import numpy as np

from farsighted_jax.core.spec import ActionSpec, SpecError


@dataclasses.dataclass(frozen=True)
class ActionSpaces:
    """What the M dimensions of a padded chunk mean for each dataset of a mixture.

    Attributes:
      specs: one a dataset, in the order of the batch field `dataset`; None for action-free video.
      width: M, of the widest action space unless given.
      discrete_gripper: whether gripper dimensions are left to a `GripperHead` rather than to the flow.
    """

    specs: tuple[ActionSpec | None, ...]
    width: int = 0
    discrete_gripper: bool = False

    def __post_init__(self):
        widest = max((spec.width for spec in self.specs if spec), default=0)
        if not widest:
            raise SpecError(f"none of {len(self.specs)} dataset(s) has an action specification")
        if not self.width:
            object.__setattr__(self, "width", widest)
        if self.width < widest:
            raise SpecError(
                f"ActionSpaces.width: {self.width}, expected at least {widest}, the widest dataset"
            )

    def real(self) -> np.ndarray:
        """Which dimensions exist, bool[number of datasets, M]."""
        return self._table(lambda spec: [True] * spec.width)

    def gripper(self) -> np.ndarray:
        """Which dimensions are a gripper, bool[number of datasets, M]."""
        return self._table(lambda spec: [group == "gripper" for group in spec.groups])

    def flow_dimensions(self, dataset_B):
        """Dimensions that the flow predicts for each sample, bool[B, 1, M].

        Args:
          dataset_B: int32[B] index into `specs`; any other index has no dimension.
        """
        table = self.real() & ~self.gripper() if self.discrete_gripper else self.real()
        return _rows(table, dataset_B)

    def gripper_dimensions(self, dataset_B):
        """Dimensions that a `GripperHead` predicts for each sample, bool[B, 1, M]."""
        return _rows(self.gripper() & self.discrete_gripper, dataset_B)

    def _table(self, flags):
        table = np.zeros((len(self.specs), self.width), bool)
        for row, spec in zip(table, self.specs, strict=True):
            if spec:
                row[: spec.width] = flags(spec)
        return table


def _rows(table, dataset_B):
    known_B = (dataset_B >= 0) & (dataset_B < len(table))
    rows_BM = jnp.take(jnp.asarray(table), jnp.where(known_B, dataset_B, 0), axis=0)
    return (rows_BM & known_B[:, None])[:, None]


def padded(action_JM: np.ndarray, width: int) -> np.ndarray:
    """A chunk of one dataset with zeros in the dimensions that it lacks.

    Args:
      action_JM: float[..., M of the dataset].
      width: M of the widest.

    Returns:
      float[..., width].

    Raises:
      SpecError: a chunk wider than `width`.
    """
    missing = width - action_JM.shape[-1]
    if missing < 0:
        raise SpecError(f"actions of shape {action_JM.shape} do not fit into {width} dimensions")
    return np.pad(action_JM, [(0, 0)] * (action_JM.ndim - 1) + [(0, missing)])


def with_gripper(action_BJM, logit_BJM, gripper_B1M):
    """Sampled actions with the gripper dimensions set to open (1) or closed (0).

    Args:
      action_BJM: float[B, J, M] as the flow gives them.
      logit_BJM: float[B, J, M] of a `GripperHead`.
      gripper_B1M: bool[B, 1, M], see `ActionSpaces.gripper_dimensions`.

    Returns:
      float[B, J, M].
    """
    return jnp.where(gripper_B1M, (logit_BJM > 0).astype(action_BJM.dtype), action_BJM)
