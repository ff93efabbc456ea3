"""Robustness to distance: what the codes hold when the frames lie m times as far apart as in training."""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.evaluators import ridge
from farsighted_jax.evaluators.base import (
    Arrays,
    EvaluationError,
    Setup,
    finite_or_none,
    horizon_ms,
    valid_transitions,
)
from farsighted_jax.evaluators.image_metrics import mse, psnr
from farsighted_jax.evaluators.latent_probe import thumbnails
from farsighted_jax.evaluators.probe_fit import (
    ProbeRows,
    action_groups,
    held_out_predictions,
    r2_by_group,
)
from farsighted_jax.evaluators.random_codes import CodeFrequencies
from farsighted_jax.evaluators.rows import joined

FEATURES = ("quantized", "encoded", "shuffled", "two_frames")
# The trained gap, which the probe of "fitted_at_1" is fitted at.
TRAINED = 1


class GapRobustness:
    """Probe R2 and delta-PSNR as functions of the frame gap.

    A model trained with the offsets (..., g) is tested at m * (..., g). Only the
    last transition counts: its codes are what the probe reads, the action
    summed over [0, m * g] is what it is to tell.

      fitted_per_gap   the probe is fitted at the gap where it is scored: is the
                       motion still in the codes?
      fitted_at_1      the probe is fitted at m = 1 and scored at every m: do the
                       codes still mean the same?

    Feature sets: "quantized", "encoded" (before quantisation), "shuffled"
    ("quantized" of other samples: the floor), "two_frames" (thumbnails of frame
    0 and the last one: what pixels give linearly). Random codes for delta-PSNR
    are drawn with the frequencies at the same gap, of the fit split if there is
    one.
    """

    needs = frozenset()

    def __init__(self, setup: Setup):
        if setup.functions is None or not setup.datasets:
            raise EvaluationError(
                "evaluator 'gap_robustness' needs Setup.functions and the dataset specifications"
            )
        if TRAINED not in setup.gap_multiples:
            raise EvaluationError(
                f"evaluator 'gap_robustness' needs batches at m = 1, found {setup.gap_multiples}"
            )
        self._setup, self._rng = setup, np.random.default_rng(setup.seed)
        self._frequencies: dict[int, CodeFrequencies] = {}
        # (dataset, multiple) -> rows
        self._fit: dict[tuple[int, int], list[dict[str, np.ndarray]]] = {}
        self._score: dict[tuple[int, int], list[dict[str, np.ndarray]]] = {}

    def update_gap_fit(self, multiple: int, batch: Arrays, outputs: Arrays) -> None:
        """Adds a batch of the training split at `multiple` times the trained offsets."""
        self._count(multiple, batch, outputs)
        self._collect(self._fit, multiple, batch, outputs, {})

    def update_gap(self, multiple: int, batch: Arrays, outputs: Arrays) -> None:
        """Adds a batch of the split to score; decodes its last frames, also from random codes."""
        valid_B = valid_transitions(batch)[:, -1]
        if not valid_B.any():
            return
        if not self._fit:
            self._count(multiple, batch, outputs)
        if multiple not in self._frequencies:
            return
        random_B1ZU = self._frequencies[multiple].draw(self._rng, (len(valid_B), 1))
        true_BHW3, first_BHW3 = (np.asarray(batch["rgb"])[:, k] / 255.0 for k in (-1, 0))
        predicted = {
            "psnr": self._last_frame(batch, outputs["quantized"][:, -1:]),
            "psnr_random": self._last_frame(batch, random_B1ZU),
            "psnr_copy": first_BHW3,
        }
        quality = {name: psnr(mse(frames, true_BHW3)) for name, frames in predicted.items()}
        self._collect(self._score, multiple, batch, outputs, quality)

    def _last_frame(self, batch, quantized_B1ZU):
        """The last frame as decoded; those in between, often many, would be decoded for nothing."""
        ends = {name: np.asarray(batch[name])[:, [0, -1]] for name in ("rgb", "time_s")}
        decoded = self._setup.functions.decode({**batch, **ends}, quantized_B1ZU)
        return np.asarray(decoded["rgb"])[:, 0]

    def _count(self, multiple, batch, outputs):
        valid_B = valid_transitions(batch)[:, -1]
        if valid_B.any():
            empty = CodeFrequencies(self._setup.num_slots, self._setup.codebook_size)
            frequencies = self._frequencies.setdefault(multiple, empty)
            frequencies.add(outputs["code"][valid_B, -1], outputs["quantized"][valid_B, -1])

    def _collect(self, parts, multiple, batch, outputs, quality):
        valid_B, dataset_B = valid_transitions(batch)[:, -1], np.asarray(batch["dataset"])
        small_BTE = thumbnails(np.asarray(batch["rgb"])[:, [0, -1]])
        for index in np.unique(dataset_B[valid_B]).tolist():
            chosen = np.flatnonzero(valid_B & (dataset_B == index))
            rows = {name: outputs[name][chosen, -1].reshape(len(chosen), -1) for name in FEATURES[:2]}
            rows["two_frames"] = small_BTE[chosen].reshape(len(chosen), -1)
            rows["episode"] = np.asarray(batch["episode"])[chosen]
            rows["ms"] = horizon_ms(batch)[chosen, -1]
            rows |= {name: value_B[chosen] for name, value_B in quality.items()}
            action = self._setup.datasets[index].action
            if action is not None:
                rows["target"] = np.asarray(batch["action_sum"], np.float64)[chosen, -1, : action.width]
                rows["known"] = np.asarray(batch["action_sum_valid"])[chosen, -1, : action.width].all(axis=-1)
            parts.setdefault((index, multiple), []).append(rows)

    def result(self) -> dict[str, Any]:
        """Dataset name -> metrics.

        `gap_s`, `num_score`, `num_fit`, `psnr`, `psnr_random`, `psnr_copy` and `delta_psnr` are
        multiple -> value; `r2` and `r2_interval` are protocol -> feature set ->
        multiple -> group -> value. A multiple without a window has only `num_score` 0.
        """
        result: dict[str, Any] = {}
        for index in sorted({index for index, _ in self._score}):
            spec = self._setup.datasets[index]
            score = {m: joined(parts) for (i, m), parts in sorted(self._score.items()) if i == index}
            entry: dict[str, Any] = {
                "gap_s": {str(m): float(rows["ms"][0]) / 1000 for m, rows in score.items()},
                "num_score": {
                    str(m): len(score[m]["ms"]) if m in score else 0 for m in self._setup.gap_multiples
                },
            }
            for name in ("psnr", "psnr_random", "psnr_copy"):
                entry[name] = {str(m): finite_or_none(rows[name].mean()) for m, rows in score.items()}
            entry["delta_psnr"] = {m: entry["psnr"][m] - entry["psnr_random"][m] for m in entry["psnr"]}
            if spec.action is not None:
                self._probe(entry, index, score, spec.action)
            result[spec.name] = entry
        return result

    def _probe(self, entry, index, score, action):
        fit = {m: joined(parts) for (i, m), parts in self._fit.items() if i == index} if self._fit else score
        groups = action_groups(action.groups)
        entry["num_fit"] = {str(m): int(rows["known"].sum()) for m, rows in fit.items()}
        for m, rows in score.items():
            for feature in FEATURES:
                per_gap = self._scored(fit.get(m), rows, feature, groups)
                at_1 = per_gap if m == TRAINED else self._scored(fit.get(TRAINED), rows, feature, groups)
                for protocol, values in (("fitted_per_gap", per_gap), ("fitted_at_1", at_1)):
                    for metric, value in values.items():
                        place = entry.setdefault(metric, {}).setdefault(protocol, {})
                        place.setdefault(feature, {})[str(m)] = value

    def _scored(self, source, rows, feature, groups):
        known, seed = rows["known"], self._setup.seed
        if source is None or not known.any() or not source["known"].any():
            return {"r2": dict.fromkeys(groups), "r2_interval": dict.fromkeys(groups)}
        mine = source["known"]
        x_fit, x_score = _features(feature, source, seed + 1), _features(feature, rows, seed)
        predicted_QM = held_out_predictions(
            ProbeRows(x_fit[mine], source["target"][mine], source["episode"][mine]),
            x_score[known],
            rows["episode"][known],
            groups,
            seed,
            same_split=not self._fit,
        )
        true_QM, episode_Q = rows["target"][known], rows["episode"][known]
        intervals = dict.fromkeys(groups)
        if np.isfinite(predicted_QM).all():
            for group, dims in groups.items():
                found = ridge.r2_interval(true_QM[:, dims], predicted_QM[:, dims], episode_Q, seed)
                intervals[group] = found and [finite_or_none(bound) for bound in found]
        return {"r2": r2_by_group(true_QM, predicted_QM, groups), "r2_interval": intervals}


def _features(feature, rows, seed):
    if feature == "shuffled":
        return np.random.default_rng(seed).permutation(rows["quantized"])
    return rows[feature]
