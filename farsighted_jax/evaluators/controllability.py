"""Controllability: how much worse the prediction gets when the codes are random ones (delta-PSNR)."""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.evaluators.base import (
    Arrays,
    EvaluationError,
    HorizonMeans,
    Setup,
    horizon_ms,
    valid_transitions,
)
from farsighted_jax.evaluators.image_metrics import mse, psnr
from farsighted_jax.evaluators.random_codes import CodeFrequencies
from farsighted_jax.evaluators.reconstruction import NO_OP_MSE


class Controllability:
    """delta-PSNR by horizon: PSNR with the inferred codes minus PSNR with random codes.

    A random code is drawn for each slot on its own, with the frequencies of the
    fit split; without one, of the scored batches up to the present one. Unlike
    codes of another sample (`psnr_over_shuffled` of "reconstruction"), it need
    not be a motion that exists. 0 means that the decoder ignores the codes.

      delta_psnr         dB, mean over samples; `_moving` as in "reconstruction"
      psnr, psnr_random  its two parts
      response           mean squared difference of the two predictions: what the
                         codes change, whether for better or worse
    """

    needs = frozenset({"decoded"})

    def __init__(self, setup: Setup):
        if setup.functions is None:
            raise EvaluationError("evaluator 'controllability' needs Setup.functions, which is None")
        self._functions = setup.functions
        self._rng = np.random.default_rng(setup.seed)
        self._frequencies = CodeFrequencies(setup.num_slots, setup.codebook_size)
        self._fitted = False
        self._means = HorizonMeans()

    def update_fit(self, batch: Arrays, outputs: Arrays) -> None:
        """Counts the codes of a batch of the training split."""
        self._count(batch, outputs)
        self._fitted = self._frequencies.num_seen > 0

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Decodes a batch once more, from random codes."""
        valid_Bt, ms_Bt = valid_transitions(batch), horizon_ms(batch)
        if not valid_Bt.any():
            return
        if not self._fitted:
            self._count(batch, outputs)
        random_BtZU = self._frequencies.draw(self._rng, valid_Bt.shape)
        random = np.asarray(self._functions.decode(batch, random_BtZU)["rgb"])
        sample, k = np.nonzero(valid_Bt)
        rgb_BTHW3 = np.asarray(batch["rgb"])
        true = rgb_BTHW3[sample, k + 1] / 255.0
        error, error_random = mse(outputs["rgb"][sample, k], true), mse(random[sample, k], true)
        moving = mse(rgb_BTHW3[sample, 0] / 255.0, true) > NO_OP_MSE
        values = {
            "delta_psnr": psnr(error) - psnr(error_random),
            "psnr": psnr(error),
            "psnr_random": psnr(error_random),
            "response": mse(outputs["rgb"][sample, k], random[sample, k]),
        }
        everywhere = np.ones_like(moving)
        for subset, chosen in (("", everywhere), ("_moving", moving)):
            self._means.add(f"num_samples{subset}", chosen, chosen, ms_Bt[sample, k])
            for name, value_N in values.items():
                self._means.add(f"{name}{subset}", value_N, chosen, ms_Bt[sample, k])

    def _count(self, batch, outputs):
        valid_Bt = valid_transitions(batch)
        self._frequencies.add(outputs["code"][valid_Bt], outputs["quantized"][valid_Bt])

    def result(self) -> dict[str, Any]:
        """Metric -> horizon -> value; `protocol` says where the random codes come from."""
        means = self._means
        source = "the fit split" if self._fitted else "the scored split, up to each batch"
        protocol = f"random codes: each slot alone, frequencies of {source}, one draw a sample"
        return {
            "protocol": protocol,
            "num_codes_counted": self._frequencies.num_seen,
            **{n: means.counts(n) if n.startswith("num_") else means.means(n) for n in means.names()},
        }
