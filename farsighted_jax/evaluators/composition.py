"""Do codes add up? Additivity over time, and the code of a motion run backwards."""

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
from farsighted_jax.evaluators.outputs import model_outputs, shuffled_source
from farsighted_jax.evaluators.reclip import reclipped

SPACES = ("quantized", "encoded")


class Composition:
    """Additivity z(0, k) ~ z(0, 1) + z(1, k), and reversal z(0, k) ~ -z(k, 0).

    z(a, b) are the Z * U numbers that the model gives for transition a -> b of
    a clip that begins at frame a; frames between are part of the clip. A
    reversed clip shows the frames 0..k in falling order, at the same pace. An
    error is the mean square of the difference of both sides, divided by the
    mean square of z(0, k) about its own mean:

      additivity         z(0, k) - z(0, 1) - z(1, k)
      first_alone        z(0, k) - z(0, 1): what the second summand is worth
      additivity_shuffled, reversal_shuffled   the second vector of another sample
      reversal           z(0, k) + z(k, 0)
      unreversed         z(0, k) - z(k, 0): 0 if the codes do not know the direction of time

    `..._centred` takes every vector minus its mean over the samples first: an
    offset that all codes share is no fault, but no zero either. Predicting the
    mean scores 1 there. A clip of two frames has no sums to look at.
    """

    needs = frozenset()

    def __init__(self, setup: Setup):
        if setup.functions is None:
            raise EvaluationError("evaluator 'composition' needs Setup.functions, which is None")
        self._functions, self._rng = setup.functions, np.random.default_rng(setup.seed)
        # (law, space, horizon in ms) -> rows of (z(0, k), first, second, second of another sample)
        self._rows: dict[tuple[str, str, int], list[tuple[np.ndarray, ...]]] = {}

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Encodes a batch again: from frame 1 on, and backwards from every frame k."""
        valid_Bt, ms_Bt = valid_transitions(batch), horizon_ms(batch)
        if not valid_Bt.any():
            return
        t = valid_Bt.shape[1]
        if t > 1:
            later = self._encoded(reclipped(batch, range(1, t + 1)))
            for k in range(1, t):
                both_B = valid_Bt[:, 0] & valid_Bt[:, k]
                self._add("additivity", outputs, 0, k, later, k - 1, both_B, ms_Bt[:, k])
        for k in range(t):
            all_B = valid_Bt[:, : k + 1].all(axis=1)
            backward = self._encoded(reclipped(batch, range(k + 1, -1, -1)))
            self._add("reversal", outputs, k, k, backward, k, all_B, ms_Bt[:, k])

    def _encoded(self, batch):
        return model_outputs(self._functions, batch, needs=())

    def _add(self, law, outputs, first_k, k, others, other_k, valid_B, ms_B):
        source_B, possible_B = (array[:, 0] for array in shuffled_source(valid_B[:, None], self._rng))
        for ms in np.unique(ms_B[possible_B]).tolist():
            chosen = np.flatnonzero(possible_B & (ms_B == ms))
            for space in SPACES:
                whole, first = outputs[space][chosen, k], outputs[space][chosen, first_k]
                second, wrong = others[space][chosen, other_k], others[space][source_B[chosen], other_k]
                rows = tuple(z.reshape(len(chosen), -1) for z in (whole, first, second, wrong))
                self._rows.setdefault((law, space, ms), []).append(rows)

    def result(self) -> dict[str, Any]:
        """Space ("quantized", "encoded") -> error -> horizon -> value; None where all codes are the same."""
        result: dict[str, Any] = {"num_samples": {"additivity": {}, "reversal": {}}}
        for law, space, ms in sorted(self._rows):
            rows = [np.concatenate(part) for part in zip(*self._rows[law, space, ms], strict=True)]
            result["num_samples"][law][horizon_name(ms)] = len(rows[0])
            centred = [z_QE - z_QE.mean(axis=0) for z_QE in rows]
            for suffix, (whole, first, second, wrong) in (("", rows), ("_centred", centred)):
                if law == "additivity":
                    sides = {
                        "additivity": first + second,
                        "first_alone": first,
                        "additivity_shuffled": first + wrong,
                    }
                else:
                    sides = {"reversal": -second, "unreversed": second, "reversal_shuffled": -wrong}
                for name, side in sides.items():
                    errors = result.setdefault(space, {}).setdefault(f"{name}{suffix}", {})
                    errors[horizon_name(ms)] = finite_or_none(_relative_error(whole, side))
        return result


def _relative_error(whole_QE, side_QE):
    spread = np.square(whole_QE - whole_QE.mean(axis=0), dtype=np.float64).mean()
    error = np.square(whole_QE - side_QE, dtype=np.float64).mean()
    return error / spread if spread > 1e-12 * np.square(whole_QE, dtype=np.float64).mean() else np.nan
