"""What every evaluator shares: a model as functions, the setup, masked means by horizon.

A horizon is the real time between frame 0 and frame k, so that datasets with
different frame rates never fall into one number. In results it is a string of
seconds ("0.2"). A value that cannot be had (no sample, zero variance) is None.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np

from farsighted_jax.core.batch import transition_valid
from farsighted_jax.core.spec import DatasetSpec

Arrays = Mapping[str, np.ndarray]


class EvaluationError(ValueError):
    """An evaluation cannot be carried out; the message names what is missing or wrong."""


@dataclasses.dataclass(frozen=True)
class LatentActionFunctions:
    """A latent action model as pure, already compiled functions.

    Attributes:
      encode: batch -> {"code": int32[B, t, Z], "encoded": float32[B, t, Z, U],
        "quantized": float32[B, t, Z, U]}.
      decode: (batch, quantized_BtZU) -> {"rgb": float32[B, t, H, W, 3] in [0, 1],
        "depth": float32[B, t, H, W, 1] normalised log depth}. "depth" may be absent.
      codebook_size: V.
      num_slots: Z.
      metrics: batch -> name -> (sum, count), the task's own metrics; only the
        evaluator "mean" needs it.
      perceptual: (predicted float32[B, t, H, W, 3], true float32[B, t, H, W, 3]),
        both in [0, 1], -> float32[B, t], a perceptual distance (LPIPS); None where the run has none.
      relative_depth: batch -> (float32[B, T, H, W, 1], bool[B, T]), estimated depth in units
        of each clip and for which frames it stands; None where no prediction was trained on it.
    """

    encode: Callable[[Arrays], Mapping[str, Any]]
    decode: Callable[[Arrays, np.ndarray], Mapping[str, Any]]
    codebook_size: int
    num_slots: int
    metrics: Callable[[Arrays], Mapping[str, tuple[Any, Any]]] | None = None
    perceptual: Callable[[np.ndarray, np.ndarray], Any] | None = None
    relative_depth: Callable[[Arrays], tuple[Any, Any]] | None = None


@dataclasses.dataclass(frozen=True)
class PolicyFunctions:
    """A policy as pure, already compiled functions; None for a group of tokens that it lacks.

    Attributes:
      codebook_size: V of the plan's codes.
      num_slots: Z.
      actions: batch -> float32[B, J, M], one normalised chunk a sample.
      logits: batch -> {"logit": float32[B, t*Z, V] given the true codes before each, "code":
        int32[B, t, Z] those codes, "code_valid": bool[B, t]}.
      plan: batch -> {"code": int32[B, t, Z] of greedy decoding, "logit": float32[B, t*Z, V] that
        they were chosen by}.
      imagined: batch -> {"rgb": float32[B, H, W, 3] in [0, 1], "depth": float32[B, H, W, 1]
        normalised log depth} of frame 1 as predicted. "depth" may be absent.
      metrics: see `LatentActionFunctions`.
      perceptual: see `LatentActionFunctions`.
    """

    codebook_size: int
    num_slots: int
    actions: Callable[[Arrays], Any] | None = None
    logits: Callable[[Arrays], Mapping[str, Any]] | None = None
    plan: Callable[[Arrays], Mapping[str, Any]] | None = None
    imagined: Callable[[Arrays], Mapping[str, Any]] | None = None
    metrics: Callable[[Arrays], Mapping[str, tuple[Any, Any]]] | None = None
    perceptual: Callable[[np.ndarray, np.ndarray], Any] | None = None


@dataclasses.dataclass(frozen=True)
class ActionScale:
    """What normalised actions of one dataset mean.

    Attributes:
      mean: float[M] mean action of the training split, normalised.
      unit: float[M] what a difference of 1 is in the dataset's own units.
    """

    mean: np.ndarray
    unit: np.ndarray


@dataclasses.dataclass(frozen=True)
class Setup:
    """What evaluators are built from.

    Attributes:
      codebook_size: V.
      num_slots: Z.
      seed: of every random choice (shuffles, bootstrap).
      datasets: specifications by dataset index (`batch["dataset"]`).
      functions: the model, for evaluators that look at more than each batch's
        own codes and predictions.
      gap_multiples: multiples of the trained offsets that "gap_robustness" gets batches of.
      action_scales: by dataset index; None for a dataset without actions.
    """

    codebook_size: int
    num_slots: int
    seed: int = 0
    datasets: tuple[DatasetSpec, ...] = ()
    functions: LatentActionFunctions | PolicyFunctions | None = None
    gap_multiples: tuple[int, ...] = ()
    action_scales: tuple[ActionScale | None, ...] = ()


class Evaluator(Protocol):
    """Accumulates over batches on the host.

    One that also learns from a training split has `update_fit(batch, outputs)`;
    `outputs` come without the decoded frames there. One that looks at other
    frame gaps has `update_gap_fit` and `update_gap(multiple, batch, outputs)`
    in place of `update`.

    Attributes:
      needs: outputs it reads, of those that `outputs.model_outputs` or, of a policy,
        `outputs.policy_outputs` computes on demand.
    """

    needs: frozenset[str]

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds one batch; `outputs` are those of either function."""

    def result(self) -> dict[str, Any]:
        """The metrics so far, ready for JSON."""


def horizon_ms(batch: Arrays) -> np.ndarray:
    """Time of each frame k after frame 0, int64[B, t] in milliseconds."""
    time_s_BT = np.asarray(batch["time_s"], np.float64)
    return np.rint(np.nan_to_num(time_s_BT[:, 1:] - time_s_BT[:, :1]) * 1000).astype(np.int64)


def horizon_name(ms: int) -> str:
    """Milliseconds as a result key in seconds, e.g. 200 -> "0.2"."""
    return f"{ms / 1000:.3f}".rstrip("0").rstrip(".")


def valid_transitions(batch: Arrays) -> np.ndarray:
    """Which (sample, k) exist, bool[B, t]; all False in rows that only fill up the last batch."""
    return np.asarray(transition_valid(np.asarray(batch["frame_valid"])))


def finite_or_none(value: float) -> float | None:
    """A float that JSON can hold; None for NaN and Inf."""
    return float(value) if math.isfinite(value) else None


class HorizonMeans:
    """Masked sums and counts of named quantities, by horizon."""

    def __init__(self):
        self._sums: dict[str, dict[int, tuple[float, int]]] = {}
        self._horizons: set[int] = set()

    def add(self, name: str, value_Bt: np.ndarray, valid_Bt: np.ndarray, ms_Bt: np.ndarray) -> None:
        """Adds values where `valid_Bt`; what stands elsewhere (NaN too) has no influence."""
        sums = self._sums.setdefault(name, {})
        for ms in np.unique(ms_Bt[valid_Bt]).tolist():
            chosen = value_Bt[valid_Bt & (ms_Bt == ms)]
            total, count = sums.get(ms, (0.0, 0))
            sums[ms] = (total + float(np.sum(chosen, dtype=np.float64)), count + chosen.size)
            self._horizons.add(ms)

    def names(self) -> tuple[str, ...]:
        """Names in the order they came."""
        return tuple(self._sums)

    def means(self, name: str) -> dict[str, float | None]:
        """Mean by horizon; None where this quantity has no sample."""
        return {
            horizon_name(ms): finite_or_none(total / count) if count else None
            for ms, (total, count) in self._by_horizon(name)
        }

    def overall(self, name: str) -> float | None:
        """Mean over all horizons, each sample weighing the same; None without any."""
        sums = self._sums.get(name, {}).values()
        count = sum(count for _, count in sums)
        return finite_or_none(sum(total for total, _ in sums) / count) if count else None

    def counts(self, name: str) -> dict[str, int]:
        """Number of samples by horizon."""
        return {horizon_name(ms): count for ms, (_, count) in self._by_horizon(name)}

    def _by_horizon(self, name):
        sums = self._sums.get(name, {})
        return [(ms, sums.get(ms, (0.0, 0))) for ms in sorted(self._horizons)]
