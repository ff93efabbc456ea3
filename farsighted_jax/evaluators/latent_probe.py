"""Linear probe from latent codes to the true actions: how much of the motion the codes hold.

The target at horizon k is `action_sum`, the action over [frame 0, frame k).
Each dataset is probed on its own (action dimensions differ in meaning), and
each horizon too. Sets of features:

  quantized    vectors after quantisation, Z * U
  encoded      vectors before it, Z * U
  one_hot      code indices, one-hot a slot, Z * V
  shuffled     `quantized` of other samples: the floor
  frame0       frame 0 alone, area-averaged to 8x8 rgb: what scene identity gives
  two_frames   the same of frames 0 and k: what pixels give linearly
  true_motion  the true displacement where it is known: the ceiling
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from farsighted_jax.core.spec import ActionSpec
from farsighted_jax.evaluators import ridge
from farsighted_jax.evaluators.base import (
    Arrays,
    EvaluationError,
    Setup,
    finite_or_none,
    horizon_ms,
    horizon_name,
    valid_transitions,
)
from farsighted_jax.evaluators.probe_fit import action_groups, r2_by_group
from farsighted_jax.evaluators.rows import by_dataset_and_horizon, joined

THUMBNAIL = 8


class LatentProbe:
    """R2 of ridge regressions, per feature set, horizon and action group.

    With `update_fit` batches the probe is fitted on those and scored on the
    others; without, by cross-validation over the scored set, its predictions
    pooled. Episodes are never split between fitting and scoring. The interval
    is over resampled episodes of the scored part.
    """

    needs = frozenset()

    def __init__(self, setup: Setup):
        if not setup.datasets:
            raise EvaluationError("evaluator 'latent_probe' needs the dataset specifications, found none")
        self._setup = setup
        self._without_actions: set[int] = set()
        self._fit: dict[tuple[int, int], list[dict[str, np.ndarray]]] = {}
        self._score: dict[tuple[int, int], list[dict[str, np.ndarray]]] = {}

    def update_fit(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds a batch of the training split."""
        self._collect(self._fit, batch, outputs)

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds a batch of the split to score."""
        self._collect(self._score, batch, outputs)

    def _collect(self, parts, batch, outputs):
        for name in ("action_sum", "action_sum_valid"):
            if name not in batch:
                raise EvaluationError(
                    f"evaluator 'latent_probe' needs the batch field {name!r}; it has {sorted(batch)}"
                )
        thumbnail_BTE = thumbnails(np.asarray(batch["rgb"]))
        places = by_dataset_and_horizon(valid_transitions(batch), batch["dataset"], horizon_ms(batch))
        for index, ms, sample, k in places:
            spec = self._dataset(index).action
            if spec is None:
                self._without_actions.add(index)
                continue
            known_Q = np.asarray(batch["action_sum_valid"])[sample, k, : spec.width].all(axis=-1)
            if not known_Q.any():
                continue
            sample, k = sample[known_Q], k[known_Q]
            part = _rows(batch, outputs, sample, k, spec)
            part["frame0"] = thumbnail_BTE[sample, 0]
            part["two_frames"] = np.concatenate([part["frame0"], thumbnail_BTE[sample, k + 1]], axis=1)
            parts.setdefault((index, ms), []).append(part)

    def _dataset(self, index):
        if not 0 <= index < len(self._setup.datasets):
            names = [spec.name for spec in self._setup.datasets]
            raise EvaluationError(f"batch field 'dataset' holds {index}, but the specifications are {names}")
        return self._setup.datasets[index]

    def result(self) -> dict[str, Any]:
        """Dataset name -> metrics.

        Each of `r2`, `r2_interval`, `r2_per_dimension` and `ridge` (the chosen
        strength) is feature set -> horizon -> group or dimension -> value. A
        dataset without an action specification has only "protocol".
        """
        result: dict[str, Any] = {
            self._setup.datasets[index].name: {"protocol": "no action specification: not probed"}
            for index in sorted(self._without_actions)
        }
        for index, ms in sorted(self._score):
            spec = self._setup.datasets[index]
            entry = result.setdefault(spec.name, {"protocol": self._protocol()})
            score = joined(self._score[index, ms])
            fit = joined(self._fit[index, ms]) if (index, ms) in self._fit else None
            if self._fit and fit is None:
                fit = {name: array[:0] for name, array in score.items()}
            self._probe(entry, horizon_name(ms), score, fit, spec.action)
        return result

    def _protocol(self):
        if self._fit:
            return "fitted on the fit split, scored on the score split"
        return f"cross-validated by episode on the scored split, {ridge.MAX_FOLDS} folds or one an episode"

    def _probe(self, entry, horizon, score, fit, action):
        groups, dimensions = action_groups(action.groups), {n: [i] for i, n in enumerate(action.names)}
        fit_part = score if fit is None else fit
        for name, part in (("fit", fit_part), ("score", score)):
            entry.setdefault(f"num_{name}", {})[horizon] = len(part["episode"])
            entry.setdefault(f"num_{name}_episodes", {})[horizon] = len(np.unique(part["episode"]))
        true_QM, episode_Q, seed = score["target"], score["episode"], self._setup.seed
        for feature in _feature_sets(score):
            x_score = _features(feature, score, self._setup, seed)
            x_fit = x_score if fit is None else _features(feature, fit, self._setup, seed + 1)
            predicted_QM, strength = _predictions(x_score, score, x_fit, fit, groups, seed)
            intervals = {g: _interval(true_QM, predicted_QM, d, episode_Q, seed) for g, d in groups.items()}
            values = {
                "r2": r2_by_group(true_QM, predicted_QM, groups),
                "r2_interval": intervals,
                "r2_per_dimension": r2_by_group(true_QM, predicted_QM, dimensions),
                "ridge": strength,
            }
            for metric, value in values.items():
                entry.setdefault(metric, {}).setdefault(feature, {})[horizon] = value


def _rows(batch, outputs, sample, k, spec: ActionSpec):
    names = ("quantized", "encoded", "code")
    rows = {name: outputs[name][sample, k].reshape(len(sample), -1) for name in names}
    if "true_motion" in outputs:
        rows["true_motion"] = outputs["true_motion"][sample, k]
    rows["target"] = np.asarray(batch["action_sum"])[sample, k, : spec.width].astype(np.float64)
    rows["episode"] = np.asarray(batch["episode"])[sample]
    return rows


def thumbnails(rgb_BTHW3: np.ndarray) -> np.ndarray:
    """Each frame area-averaged to at most 8x8 rgb, float32[B, T, E] within [0, 1]."""
    size = (min(THUMBNAIL, rgb_BTHW3.shape[3]), min(THUMBNAIL, rgb_BTHW3.shape[2]))
    frames = rgb_BTHW3.reshape(-1, *rgb_BTHW3.shape[2:])
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack(small).reshape(*rgb_BTHW3.shape[:2], -1).astype(np.float32) / 255


def _feature_sets(rows):
    known = ("quantized", "encoded", "one_hot", "shuffled", "frame0", "two_frames", "true_motion")
    return [name for name in known if name != "true_motion" or name in rows]


def _features(feature, rows, setup, seed):
    if feature == "one_hot":
        one_hot_QZV = rows["code"][..., None] == np.arange(setup.codebook_size)
        return one_hot_QZV.reshape(len(rows["code"]), -1).astype(np.float64)
    if feature == "shuffled":
        return np.random.default_rng(seed).permutation(rows["quantized"])
    return rows[feature]


def _predictions(x_score, score, x_fit, fit, groups, seed):
    """Predictions for the score part, NaN where the part to fit on has fewer than two episodes."""
    rng = np.random.default_rng(seed)
    predicted_QM = np.full_like(score["target"], np.nan)
    if fit is not None:
        if len(np.unique(fit["episode"])) < 2:
            return predicted_QM, dict.fromkeys(groups)
        return ridge.fit_and_predict(x_fit, fit["target"], fit["episode"], x_score, groups, rng)
    episode = score["episode"]
    if len(np.unique(episode)) < 3:
        return predicted_QM, dict.fromkeys(groups)
    for held in ridge.episode_folds(episode, rng):
        predicted_QM[held], _ = ridge.fit_and_predict(
            x_score[~held], score["target"][~held], episode[~held], x_score[held], groups, rng
        )
    return predicted_QM, dict.fromkeys(groups)


def _interval(true_QM, predicted_QM, dims, episode_Q, seed):
    if np.isnan(predicted_QM).any():
        return None
    interval = ridge.r2_interval(true_QM[:, dims], predicted_QM[:, dims], episode_Q, seed)
    return None if interval is None else [finite_or_none(bound) for bound in interval]
