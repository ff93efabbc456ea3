"""The evaluators by name, and the one pass over the data that serves them all."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from farsighted_jax.core.spec import DatasetSpec
from farsighted_jax.evaluators.action_error import ActionError
from farsighted_jax.evaluators.base import (
    ActionScale,
    Arrays,
    EvaluationError,
    Evaluator,
    LatentActionFunctions,
    PolicyFunctions,
    Setup,
)
from farsighted_jax.evaluators.codebook import CodebookUsage
from farsighted_jax.evaluators.composition import Composition
from farsighted_jax.evaluators.controllability import Controllability
from farsighted_jax.evaluators.gap_robustness import GapRobustness
from farsighted_jax.evaluators.imagined_frame import ImaginedFrame
from farsighted_jax.evaluators.latent_probe import LatentProbe
from farsighted_jax.evaluators.mean import TaskMetrics
from farsighted_jax.evaluators.outputs import model_outputs, policy_outputs
from farsighted_jax.evaluators.plan_accuracy import PlanAccuracy
from farsighted_jax.evaluators.reconstruction import Reconstruction
from farsighted_jax.evaluators.transfer import Transfer

EVALUATORS: dict[str, Callable[[Setup], Evaluator]] = {
    "mean": TaskMetrics,
    "reconstruction": Reconstruction,
    "codebook": CodebookUsage,
    "latent_probe": LatentProbe,
    "controllability": Controllability,
    "composition": Composition,
    "transfer": Transfer,
    "gap_robustness": GapRobustness,
}

POLICY_EVALUATORS: dict[str, Callable[[Setup], Evaluator]] = {
    "mean": TaskMetrics,
    "action_error": ActionError,
    "plan_accuracy": PlanAccuracy,
    "imagined_frame": ImaginedFrame,
}

# What functions a model has -> its evaluators, and what computes the outputs that they share.
KINDS = {
    LatentActionFunctions: (EVALUATORS, model_outputs),
    PolicyFunctions: (POLICY_EVALUATORS, policy_outputs),
}


@dataclasses.dataclass(frozen=True)
class GapBatches:
    """Batches at a multiple of the trained offsets.

    Attributes:
      batches: the split to score, each window once.
      fit_batches: the training split, or None without one.
    """

    batches: Iterable[Arrays]
    fit_batches: Iterable[Arrays] | None = None


def evaluate(
    functions: LatentActionFunctions | PolicyFunctions,
    batches: Iterable[Arrays],
    names: Sequence[str],
    *,
    seed: int,
    datasets: Sequence[DatasetSpec] = (),
    fit_batches: Iterable[Arrays] | None = None,
    true_motion: Callable[[Arrays], np.ndarray] | None = None,
    fit_true_motion: Callable[[Arrays], np.ndarray] | None = None,
    gaps: Mapping[int, GapBatches] | None = None,
    action_scales: Sequence[ActionScale | None] = (),
) -> dict[str, Any]:
    """Runs evaluators over a split; each batch passes once through what of the model they need.

    A LAM encodes a batch once and decodes it twice (own, shuffled codes). Some
    evaluators call the model once more; they say so.

    Args:
      functions: the model.
      batches: the split to score, each window once; rows whose `frame_valid` is
        all False only fill up the last batch and count nowhere.
      names: keys of `EVALUATORS`, or of `POLICY_EVALUATORS` for a policy.
      seed: of the shuffles and the bootstrap; equal arguments give equal results.
      datasets: specifications by dataset index; "latent_probe" needs them.
      fit_batches: the training split, for evaluators that fit something. The
        caller limits their number: codes and targets are kept in memory.
      true_motion: batch -> float32[B, t, R], the true displacement of what the
        actions move, where it is known; gives the ceiling of the probe.
      fit_true_motion: the same of the training split.
      gaps: multiple of the trained offsets -> batches, for "gap_robustness".
      action_scales: by dataset index, for "action_error".

    Returns:
      evaluator name -> metrics, ready for JSON.

    Raises:
      EvaluationError: an unknown name, no batch at all, a missing field.
    """
    known, _ = KINDS[type(functions)]
    for name in names:
        if name not in known:
            raise EvaluationError(f"unknown evaluator {name!r}; known of this model: {sorted(known)}")
    gaps = dict(gaps or {})
    setup = Setup(
        functions.codebook_size,
        functions.num_slots,
        seed,
        tuple(datasets),
        functions,
        tuple(gaps),
        tuple(action_scales),
    )
    every = {name: known[name](setup) for name in names}
    evaluators = {name: evaluator for name, evaluator in every.items() if hasattr(evaluator, "update")}
    fitting = [evaluator for evaluator in evaluators.values() if hasattr(evaluator, "update_fit")]
    if fit_batches is not None and fitting:
        for batch, outputs in _passed(functions, fit_batches, (), None, fit_true_motion):
            for evaluator in fitting:
                evaluator.update_fit(batch, outputs)
    needs = frozenset().union(*(evaluator.needs for evaluator in evaluators.values()))
    count = 0
    for batch, outputs in _passed(
        functions, batches if evaluators else (), needs, np.random.default_rng(seed), true_motion
    ):
        count += 1
        for evaluator in evaluators.values():
            evaluator.update(batch, outputs)
    if evaluators and not count:
        raise EvaluationError("the split to evaluate gave no batch")
    _pass_gaps(functions, gaps, [each for each in every.values() if hasattr(each, "update_gap")])
    return {name: evaluator.result() for name, evaluator in every.items()}


def _pass_gaps(functions, gaps, evaluators):
    if not evaluators:
        return
    needs = frozenset().union(*(evaluator.needs for evaluator in evaluators))
    for multiple, streams in gaps.items():
        for batch, outputs in _passed(functions, streams.fit_batches or (), (), None, None):
            for evaluator in evaluators:
                evaluator.update_gap_fit(multiple, batch, outputs)
    # All fits first: whether there is a fit split decides how the scored part is read.
    for multiple, streams in gaps.items():
        for batch, outputs in _passed(functions, streams.batches, needs, None, None):
            for evaluator in evaluators:
                evaluator.update_gap(multiple, batch, outputs)


def _passed(functions, batches, needs, rng, true_motion):
    _, outputs_of = KINDS[type(functions)]
    for batch in batches:
        outputs = outputs_of(functions, batch, rng, needs)
        if true_motion is not None:
            outputs["true_motion"] = np.asarray(true_motion(batch))
        yield batch, outputs
