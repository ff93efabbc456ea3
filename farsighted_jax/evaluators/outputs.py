"""Runs a model on one batch for all evaluators: codes and predictions of a LAM, all that a policy tells."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from farsighted_jax.evaluators.base import (
    Arrays,
    EvaluationError,
    LatentActionFunctions,
    PolicyFunctions,
    valid_transitions,
)

ENCODED = ("code", "encoded", "quantized")


def shuffled_source(valid_Bt: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """For every (sample, k), another valid sample of the batch at the same k.

    The permutation is one random cycle through the valid samples, so nobody
    keeps its own code. A fixed shift would often pick the neighbouring window
    of the same episode, whose motion is nearly the same.

    Args:
      valid_Bt: bool[B, t].
      rng: source of randomness.

    Returns:
      source_Bt: int64[B, t] row to take from; its own row where it is not possible.
      possible_Bt: bool[B, t], False where masked or where a sample is alone.
    """
    source_Bt = np.repeat(np.arange(len(valid_Bt))[:, None], valid_Bt.shape[1], axis=1)
    possible_Bt = np.zeros_like(valid_Bt)
    for k in range(valid_Bt.shape[1]):
        cycle = rng.permutation(np.flatnonzero(valid_Bt[:, k]))
        if cycle.size > 1:
            source_Bt[cycle, k] = np.roll(cycle, 1)
            possible_Bt[cycle, k] = True
    return source_Bt, possible_Bt


def model_outputs(
    functions: LatentActionFunctions,
    batch: Arrays,
    rng: np.random.Generator | None = None,
    needs: Collection[str] = ("decoded",),
) -> dict[str, np.ndarray]:
    """Encodes a batch once and, if needed, decodes the codes and the shuffled codes.

    Args:
      functions: the model.
      batch: numpy fields of `core.batch`.
      rng: source of the shuffle; without one nothing is shuffled.
      needs: subset of {"decoded", "metrics"}.

    Returns:
      "code", "encoded", "quantized"; with "decoded" also "rgb" and "depth" as
      predicted and, with `rng`, "rgb_shuffled", "depth_shuffled" and
      "shuffle_valid" bool[B, t]; with "metrics" the task's metrics.

    Raises:
      EvaluationError: a function returns less, or another shape, than it should.
    """
    encoded = functions.encode(batch)
    outputs = {name: _array(encoded, name, "encode") for name in ENCODED}
    valid_Bt = valid_transitions(batch)
    _check_shape("code", outputs["code"], (*valid_Bt.shape, functions.num_slots))
    if "decoded" in needs:
        outputs |= _decoded(functions, batch, outputs["quantized"], "")
        if rng is not None:
            source_Bt, outputs["shuffle_valid"] = shuffled_source(valid_Bt, rng)
            wrong_BtZU = outputs["quantized"][source_Bt, np.arange(valid_Bt.shape[1])]
            outputs |= _decoded(functions, batch, wrong_BtZU, "_shuffled")
    if "metrics" in needs:
        outputs["metrics"] = _metrics(functions, batch)
    return outputs


def policy_outputs(
    functions: PolicyFunctions,
    batch: Arrays,
    rng: np.random.Generator | None = None,
    needs: Collection[str] = (),
) -> dict[str, np.ndarray]:
    """Runs the parts of a policy that are needed, each once; what a policy lacks is absent.

    Args:
      functions: the policy.
      batch: numpy fields of `core.batch`.
      rng: not used, nothing is shuffled.
      needs: subset of {"action", "plan", "imagined", "metrics"}.

    Returns:
      With "action": "action" float32[B, J, M]. With "plan": "logit", "code" and "code_valid" of
      teacher forcing, "free_logit" and "free_code" of greedy decoding. With "imagined": "rgb"
      float32[B, 1, H, W, 3] and, where predicted, "depth". With "metrics": the task's metrics.

    Raises:
      EvaluationError: a function returns less, or another shape, than it should.
    """
    del rng
    outputs = {}
    if "action" in needs and functions.actions:
        outputs["action"] = np.asarray(functions.actions(batch))
        if "action" in batch:
            _check_shape("action", outputs["action"], np.shape(batch["action"]))
    if "plan" in needs and functions.logits:
        outputs |= _planned(functions, batch)
    if "imagined" in needs and functions.imagined:
        found = functions.imagined(batch)
        frame = _array(found, "rgb", "imagined")
        _check_shape("rgb", frame, (len(frame), *np.shape(batch["rgb"])[2:]))
        outputs |= {name: np.asarray(found[name])[:, None] for name in ("rgb", "depth") if name in found}
    if "metrics" in needs:
        outputs["metrics"] = _metrics(functions, batch)
    return outputs


def _planned(functions, batch):
    outputs, valid_Bt = {}, valid_transitions(batch)
    shape = (*valid_Bt.shape, functions.num_slots)
    sizes = {"code": shape, "logit": (len(valid_Bt), shape[1] * shape[2], functions.codebook_size)}
    for prefix, function in (("", functions.logits), ("free_", functions.plan)):
        found = function(batch)
        for name, size in sizes.items():
            outputs[prefix + name] = _array(found, name, "plan" if prefix else "logits")
            _check_shape(prefix + name, outputs[prefix + name], size)
        if not prefix:
            outputs["code_valid"] = _array(found, "code_valid", "logits")
    return outputs


def _metrics(functions, batch):
    if functions.metrics is None:
        kind = type(functions).__name__
        raise EvaluationError(f"evaluator 'mean' needs {kind}.metrics, which is None")
    return functions.metrics(batch)


def _decoded(functions, batch, quantized_BtZU, suffix):
    decoded = functions.decode(batch, quantized_BtZU)
    rgb = _array(decoded, "rgb", "decode")
    size = np.asarray(batch["rgb"]).shape
    _check_shape("rgb", rgb, (size[0], size[1] - 1, *size[2:]))
    arrays = {f"rgb{suffix}": rgb}
    if "depth" in decoded:
        arrays[f"depth{suffix}"] = np.asarray(decoded["depth"])
    return arrays


def _array(found, name, function):
    if name not in found:
        raise EvaluationError(f"{function} returned {sorted(found)}, expected {name!r} among them")
    return np.asarray(found[name])


def _check_shape(name, array, expected):
    if array.shape != expected:
        raise EvaluationError(f"model output {name!r}: shape {array.shape}, expected {expected}")
