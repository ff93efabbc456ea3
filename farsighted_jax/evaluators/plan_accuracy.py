"""How well a policy predicts the codes of the true future, beside what a constant guess would reach."""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.evaluators.base import (
    Arrays,
    HorizonMeans,
    Setup,
    horizon_ms,
    horizon_name,
    valid_transitions,
)
from farsighted_jax.evaluators.codebook import ALL

TOP = (1, 5, 10)


class PlanAccuracy:
    """Accuracy and cross entropy of the plan, for each horizon and for all codes together.

      top1, top5, top10     share of codes among the k likeliest, each given the true codes before it
      cross_entropy         nats a code, likewise
      top.._free            the same of greedy decoding, which is given its own codes
      top.._frequent        of guessing the k most frequent codes of each place (transition, slot)
      unigram_entropy       nats a code; the cross entropy of guessing each place's frequencies

    Frequencies are those of the scored codes themselves, so no constant guess
    can do better. Codes of equal likelihood count as before the true one.
    """

    needs = frozenset({"plan"})

    def __init__(self, setup: Setup):
        self._shape = (setup.num_slots, setup.codebook_size)
        self._means = HorizonMeans()
        self._counts: dict[int, np.ndarray] = {}

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds one batch."""
        if "logit" not in outputs:
            return
        code_BtZ, ms_Bt = outputs["code"], horizon_ms(batch)
        valid_Bt = valid_transitions(batch) & outputs["code_valid"]
        # What stands under a False may be no code at all.
        code_BtZ = np.where(valid_Bt[..., None], code_BtZ, 0)
        for suffix, name in (("", "logit"), ("_free", "free_logit")):
            logit_BtZV = np.asarray(outputs[name], np.float64).reshape(*code_BtZ.shape, -1)
            logit_BtZV = np.where(valid_Bt[..., None, None], logit_BtZV, 0.0)
            true_BtZ1 = np.take_along_axis(logit_BtZV, code_BtZ[..., None], axis=-1)
            place_BtZ = np.sum(logit_BtZV >= true_BtZ1, axis=-1)
            for k in TOP:
                self._means.add(f"top{k}{suffix}", np.mean(place_BtZ <= k, axis=-1), valid_Bt, ms_Bt)
            if not suffix:
                nats_BtZ = np.logaddexp.reduce(logit_BtZV, axis=-1) - true_BtZ1[..., 0]
                self._means.add("cross_entropy", np.mean(nats_BtZ, axis=-1), valid_Bt, ms_Bt)
        for ms in np.unique(ms_Bt[valid_Bt]).tolist():
            counts_ZV = self._counts.setdefault(ms, np.zeros(self._shape, np.int64))
            np.add.at(counts_ZV, (np.arange(self._shape[0]), code_BtZ[valid_Bt & (ms_Bt == ms)]), 1)

    def result(self) -> dict[str, Any]:
        """Quantity -> horizon or "all" -> value; None where there is no code, or no plan."""
        names = ["cross_entropy", *(f"top{k}{suffix}" for suffix in ("", "_free") for k in TOP)]
        return {
            **{name: {ALL: self._means.overall(name), **self._means.means(name)} for name in names},
            **self._constant(),
            "num_codes": {
                ALL: int(sum(counts_ZV.sum() for counts_ZV in self._counts.values())),
                **{horizon_name(ms): int(self._counts[ms].sum()) for ms in sorted(self._counts)},
            },
        }

    def _constant(self):
        """The baselines, by horizon and over all."""
        found: dict[str, dict[str, float | None]] = {
            name: {ALL: None} for name in ("unigram_entropy", *(f"top{k}_frequent" for k in TOP))
        }
        for ms in sorted(self._counts):
            share_ZV = np.sort(self._counts[ms] / self._counts[ms][0].sum(), axis=-1)[:, ::-1]
            logs_ZV = np.log(np.where(share_ZV > 0, share_ZV, 1.0))
            found["unigram_entropy"][horizon_name(ms)] = float(-np.sum(share_ZV * logs_ZV, axis=-1).mean())
            for k in TOP:
                found[f"top{k}_frequent"][horizon_name(ms)] = float(share_ZV[:, :k].sum(axis=-1).mean())
        weights = [self._counts[ms].sum() for ms in sorted(self._counts)]
        for values in found.values() if weights else ():
            values[ALL] = float(np.average([v for key, v in values.items() if key != ALL], weights=weights))
        return found
