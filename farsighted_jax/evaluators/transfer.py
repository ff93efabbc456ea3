"""Transfer: codes of clip A applied to frame 0 of clip B; does the result move as A does?"""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.evaluators.base import (
    Arrays,
    EvaluationError,
    Setup,
    finite_or_none,
    horizon_ms,
    horizon_name,
    valid_transitions,
)
from farsighted_jax.evaluators.outputs import ENCODED, model_outputs
from farsighted_jax.evaluators.probe_fit import (
    ProbeRows,
    action_groups,
    held_out_predictions,
    r2_by_group,
)
from farsighted_jax.evaluators.rows import by_dataset_and_horizon, joined


class Transfer:
    """Decodes A's codes on frame 0 of B, encodes the prediction again, and compares.

    B is a sample of another episode in the same batch. z_A are A's codes, z_AB
    those of the transferred prediction, z_AA those of A's own prediction (what
    decoding and encoding lose without any transfer), z_B those of B.

      code_agreement       share of slots where z_AB = z_A; the ceiling is `_own`
                           (z_AA = z_A), the floor `_unmoved` (z_B = z_A)
      vector_error         mean square of z_AB - z_A before quantisation, over the mean
                           square of z_A about its mean; likewise `_own`, `_unmoved`
      probe_agreement      R2 of the action that a linear probe reads from z_AB,
                           against the one it reads from z_A
      probe_r2             against A's true action; `_source` reads z_A itself (the
                           ceiling), `_unmoved` reads z_B

    The probe maps z before quantisation to `action_sum`, as in "latent_probe",
    and never reads an episode that it was fitted on.
    """

    needs = frozenset({"decoded"})

    def __init__(self, setup: Setup):
        if setup.functions is None:
            raise EvaluationError("evaluator 'transfer' needs Setup.functions, which is None")
        self._setup, self._rng = setup, np.random.default_rng(setup.seed)
        # (dataset of A, horizon in ms) -> rows
        self._score: dict[tuple[int, int], list[dict[str, np.ndarray]]] = {}
        self._fit: dict[tuple[int, int], list[dict[str, np.ndarray]]] = {}

    def update_fit(self, batch: Arrays, outputs: Arrays) -> None:
        """Keeps codes and actions of a batch of the training split."""
        self._collect(self._fit, batch, {"source": outputs}, None)

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Decodes and encodes a batch again, twice."""
        valid_BT = np.asarray(batch["frame_valid"])
        target_B, possible_B = other_episode(batch, valid_BT[:, 0], self._rng)
        if not possible_B.any():
            return
        # B's frame, but A's times: the decoder reads how far ahead frame k lies.
        target = {name: np.asarray(array)[target_B] for name, array in batch.items()}
        target["time_s"] = np.asarray(batch["time_s"])
        decoded = self._setup.functions.decode(target, outputs["quantized"])
        moved = self._encoded(predicted_clip(target, decoded, batch))
        own = self._encoded(predicted_clip(batch, outputs, batch))
        unmoved = {name: outputs[name][target_B] for name in ENCODED}
        codes = {"source": outputs, "moved": moved, "own": own, "unmoved": unmoved}
        self._collect(self._score, batch, codes, possible_B[:, None] & valid_BT[target_B][:, 1:])

    def _encoded(self, batch):
        return model_outputs(self._setup.functions, batch, needs=())

    def _collect(self, parts, batch, codes, possible_Bt):
        chosen_Bt, ms_Bt = valid_transitions(batch), horizon_ms(batch)
        if possible_Bt is not None:
            chosen_Bt = chosen_Bt & possible_Bt
        for index, ms, sample, k in by_dataset_and_horizon(chosen_Bt, batch["dataset"], ms_Bt):
            rows = {"episode": np.asarray(batch["episode"])[sample]}
            for name, outputs in codes.items():
                rows[f"{name}_code"] = outputs["code"][sample, k]
                rows[name] = outputs["encoded"][sample, k].reshape(len(sample), -1)
            action = self._action(index)
            if action is not None and "action_sum" in batch:
                width = action.width
                rows["target"] = np.asarray(batch["action_sum"], np.float64)[sample, k, :width]
                rows["known"] = np.asarray(batch["action_sum_valid"])[sample, k, :width].all(axis=-1)
            parts.setdefault((index, ms), []).append(rows)

    def _action(self, index):
        datasets = self._setup.datasets
        return datasets[index].action if 0 <= index < len(datasets) else None

    def result(self) -> dict[str, Any]:
        """Dataset of A -> metric -> horizon -> value; the probe's values are one level deeper, by group."""
        result: dict[str, Any] = {}
        for index, ms in sorted(self._score):
            datasets = self._setup.datasets
            name = datasets[index].name if 0 <= index < len(datasets) else str(index)
            rows = joined(self._score[index, ms])
            values = {"num_samples": len(rows["episode"]), **_agreement(rows)}
            if "target" in rows:
                fit = self._fit.get((index, ms))
                values |= self._probed(rows, joined(fit) if fit else None, self._action(index))
            for metric, value in values.items():
                result.setdefault(name, {}).setdefault(metric, {})[horizon_name(ms)] = value
        return result

    def _probed(self, rows, fit, action):
        known = rows["known"]
        same_split, source = fit is None, rows if fit is None else fit
        mine = source["known"]
        fit_rows = ProbeRows(source["source"][mine], source["target"][mine], source["episode"][mine])
        groups = action_groups(action.groups)
        read = {
            name: held_out_predictions(
                fit_rows,
                rows[name][known],
                rows["episode"][known],
                groups,
                self._setup.seed,
                same_split=same_split,
            )
            for name in ("source", "moved", "unmoved")
        }
        true_QM = rows["target"][known]
        return {
            "probe_agreement": r2_by_group(read["source"], read["moved"], groups),
            "probe_agreement_unmoved": r2_by_group(read["source"], read["unmoved"], groups),
            "probe_r2": r2_by_group(true_QM, read["moved"], groups),
            "probe_r2_source": r2_by_group(true_QM, read["source"], groups),
            "probe_r2_unmoved": r2_by_group(true_QM, read["unmoved"], groups),
        }


def other_episode(
    batch: Arrays, valid_B: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """For every sample, a valid one of another episode of the batch.

    Returns:
      source_B: int64[B] its row; the sample's own where there is none.
      possible_B: bool[B] whether there is one.
    """
    ids_B2 = np.stack([np.asarray(batch["dataset"]), np.asarray(batch["episode"])], axis=1)
    source_B, possible_B = np.arange(len(valid_B)), np.zeros_like(valid_B)
    for row in np.flatnonzero(valid_B).tolist():
        others = np.flatnonzero(valid_B & (ids_B2 != ids_B2[row]).any(axis=1))
        if others.size:
            source_B[row], possible_B[row] = rng.choice(others), True
    return source_B, possible_B


def predicted_clip(target: Arrays, decoded: Arrays, moved_by: Arrays) -> dict[str, np.ndarray]:
    """A clip that begins with frame 0 of `target` and goes on with predicted frames.

    Args:
      target: batch whose frame 0 was decoded from.
      decoded: "rgb" float[B, t, H, W, 3] within [0, 1] and, where predicted, "depth".
      moved_by: batch whose times and masks the prediction has.
    """
    rgb_BtHWC = np.rint(np.clip(np.asarray(decoded["rgb"]), 0, 1) * 255).astype(np.uint8)
    # No sensor saw the predicted frames.
    clip = {
        **{name: array for name, array in target.items() if not name.startswith("sensed_")},
        "rgb": np.concatenate([np.asarray(target["rgb"])[:, :1], rgb_BtHWC], axis=1),
        "time_s": np.asarray(moved_by["time_s"]),
        "frame_valid": np.asarray(moved_by["frame_valid"]),
    }
    if "depth" in target and "depth" in decoded:
        depth_BtHW1 = np.asarray(decoded["depth"], np.float32)
        clip["depth"] = np.concatenate([np.asarray(target["depth"])[:, :1], depth_BtHW1], axis=1)
        first_valid = np.asarray(target["depth_valid"])[:, :1]
        clip["depth_valid"] = np.concatenate([first_valid, np.ones(depth_BtHW1.shape, bool)], axis=1)
    return clip


def _agreement(rows):
    spread = np.square(rows["source"] - rows["source"].mean(axis=0), dtype=np.float64).mean()
    values = {}
    for suffix, name in (("", "moved"), ("_own", "own"), ("_unmoved", "unmoved")):
        agree = (rows[f"{name}_code"] == rows["source_code"]).mean()
        error = np.square(rows[name] - rows["source"], dtype=np.float64).mean()
        values[f"code_agreement{suffix}"] = float(agree)
        values[f"vector_error{suffix}"] = finite_or_none(error / spread) if spread > 0 else None
    return values
