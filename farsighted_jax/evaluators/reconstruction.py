"""Quality of the predicted frames and depth maps, beside copying frame 0 and beside wrong codes."""

from __future__ import annotations

from typing import Any

import numpy as np

from farsighted_jax.core.normalization import denormalize_depth
from farsighted_jax.evaluators.base import Arrays, HorizonMeans, Setup, horizon_ms, valid_transitions
from farsighted_jax.evaluators.image_metrics import depth_errors, mse, psnr, relative_depth_error, ssim

# A window in which nothing moves: the frames differ by recoding noise only. Of 180 pairs of consecutive
# frames of BridgeData V2 at 64 px, the 20 with zero action have a mean squared error of 0.8e-4 to 1.0e-4; all
# others but one lie above 1.9e-4.
NO_OP_MSE = 1.5e-4


class Reconstruction:
    """PSNR, SSIM, LPIPS (where the run has its networks) and depth errors of frame k for each horizon.

    Every quantity comes three times: as predicted, `_copy` (frame 0 in place of
    the prediction) and `_shuffled` (decoded from the codes of another sample).
    `_moving` restricts it to windows in which frame k differs from frame 0 by
    more than `NO_OP_MSE`; in the others the copy cannot be beaten.

    `psnr` is the mean of the PSNR of single frames (each capped at 100 dB),
    `psnr_of_mean_mse` the PSNR of the mean squared error over all frames; the
    first weighs good frames more, the second bad ones. Margins are means of
    differences over the same samples. Depth errors are means over a frame's
    measured pixels, then over frames with such pixels; `_copy` and `_common`
    (the prediction on the same pixels) take pixels measured in frames 0 and k.

    Clips without measured depth, whose depth is relative, are counted apart, as
    `depth_relative_error`: see `relative_depth_error`. There is no AbsRel of them,
    for which depth would need a zero.
    """

    needs = frozenset({"decoded"})

    def __init__(self, setup: Setup):
        self._means = HorizonMeans()
        self._perceptual = setup.functions.perceptual if setup.functions else None
        self._relative_depth = getattr(setup.functions, "relative_depth", None)

    def update(self, batch: Arrays, outputs: Arrays) -> None:
        """Adds one batch."""
        valid_Bt, ms_Bt = valid_transitions(batch), horizon_ms(batch)
        if not valid_Bt.any():
            return
        self._add_rgb(batch, outputs, valid_Bt, ms_Bt)
        if self._perceptual:
            self._add_perceptual(batch, outputs, valid_Bt, ms_Bt)
        if "depth" in batch and "depth" in outputs:
            self._add_depth(batch, outputs, valid_Bt, ms_Bt)
        if self._relative_depth and "depth" in outputs:
            self._add_relative_depth(batch, outputs, valid_Bt, ms_Bt)

    def _add_rgb(self, batch, outputs, valid_Bt, ms_Bt):
        sample, k = np.nonzero(valid_Bt)
        rgb_BTHW3 = np.asarray(batch["rgb"])
        true = rgb_BTHW3[sample, k + 1] / 255.0
        predicted = {"": outputs["rgb"][sample, k], "_copy": rgb_BTHW3[sample, 0] / 255.0}
        possible = {"": np.ones(len(sample), bool), "_copy": np.ones(len(sample), bool)}
        if "rgb_shuffled" in outputs:
            predicted["_shuffled"] = outputs["rgb_shuffled"][sample, k]
            possible["_shuffled"] = outputs["shuffle_valid"][sample, k]
        error = {name: mse(frames, true) for name, frames in predicted.items()}
        moving = error["_copy"] > NO_OP_MSE
        horizon = ms_Bt[sample, k]
        for subset, chosen in (("", np.ones_like(moving)), ("_moving", moving)):
            self._means.add(f"num_samples{subset}", chosen, chosen, horizon)
            for name, error_N in error.items():
                mask = chosen & possible[name]
                self._means.add(f"mse{name}{subset}", error_N, mask, horizon)
                self._means.add(f"psnr{name}{subset}", psnr(error_N), mask, horizon)
                if name:
                    margin = psnr(error[""]) - psnr(error_N)
                    self._means.add(f"psnr_over{name}{subset}", margin, mask, horizon)
        for name, frames in predicted.items():
            self._means.add(f"ssim{name}", ssim(frames, true), possible[name], horizon)

    def _add_perceptual(self, batch, outputs, valid_Bt, ms_Bt):
        """Whole batches, masked afterwards: the compiled function sees one shape."""
        rgb_BTHW3 = np.asarray(batch["rgb"], np.float32) / 255.0
        true = rgb_BTHW3[:, 1:]
        cases = {
            "": (outputs["rgb"], valid_Bt),
            "_copy": (np.broadcast_to(rgb_BTHW3[:, :1], true.shape), valid_Bt),
        }
        if "rgb_shuffled" in outputs:
            cases["_shuffled"] = (outputs["rgb_shuffled"], valid_Bt & outputs["shuffle_valid"])
        for name, (frames, mask_Bt) in cases.items():
            self._means.add(f"lpips{name}", np.asarray(self._perceptual(frames, true)), mask_Bt, ms_Bt)

    def _add_depth(self, batch, outputs, valid_Bt, ms_Bt):
        sample, k = np.nonzero(valid_Bt)
        center = np.asarray(batch["depth_center"])[sample, None, None, None]
        scale = np.asarray(batch["depth_scale"])[sample, None, None, None]
        depth_BTHW1, valid_BTHW1 = np.asarray(batch["depth"]), np.asarray(batch["depth_valid"])
        true_m = denormalize_depth(depth_BTHW1[sample, k + 1], center, scale)
        first_m = denormalize_depth(depth_BTHW1[sample, 0], center, scale)
        valid = valid_BTHW1[sample, k + 1]
        both = valid & valid_BTHW1[sample, 0]
        with np.errstate(over="ignore"):
            predicted_m = denormalize_depth(outputs["depth"][sample, k], center, scale)
            cases = {"": (predicted_m, valid), "_common": (predicted_m, both), "_copy": (first_m, both)}
            if "depth_shuffled" in outputs:
                shuffled_m = denormalize_depth(outputs["depth_shuffled"][sample, k], center, scale)
                possible = outputs["shuffle_valid"][sample, k][:, None, None, None]
                cases["_shuffled"] = (shuffled_m, valid & possible)
        for name, (depth_m, mask) in cases.items():
            has_pixel = mask.any(axis=(1, 2, 3))
            for metric, error_N in depth_errors(depth_m, true_m, mask).items():
                self._means.add(f"depth_{metric}{name}", error_N, has_pixel, ms_Bt[sample, k])
            self._means.add(f"num_depth{name}", has_pixel, has_pixel, ms_Bt[sample, k])

    def _add_relative_depth(self, batch, outputs, valid_Bt, ms_Bt):
        depth_BTHW1, relative_BT = (np.asarray(array) for array in self._relative_depth(batch))
        valid_Bt = valid_Bt & relative_BT[:, 1:]
        sample, k = np.nonzero(valid_Bt)
        if not len(sample):
            return
        true, horizon, possible = depth_BTHW1[sample, k + 1], ms_Bt[sample, k], np.ones(len(sample), bool)
        cases = {
            "": (outputs["depth"][sample, k], possible),
            "_copy": (depth_BTHW1[sample, 0], possible),
        }
        if "depth_shuffled" in outputs:
            cases["_shuffled"] = outputs["depth_shuffled"][sample, k], outputs["shuffle_valid"][sample, k]
        for name, (depth, mask) in cases.items():
            error_N = relative_depth_error(depth, true)
            self._means.add(f"depth_relative_error{name}", error_N, mask, horizon)
        self._means.add("num_depth_relative", possible, possible, horizon)

    def result(self) -> dict[str, Any]:
        """Metric -> horizon -> value; see the class for the names."""
        result = {}
        for name in self._means.names():
            if name.startswith("num_"):
                result[name] = self._means.counts(name)
            elif name.startswith("mse"):
                mean_mse = self._means.means(name)
                result[f"psnr_of_mean_mse{name.removeprefix('mse')}"] = {
                    key: None if value is None else float(psnr(value)) for key, value in mean_mse.items()
                }
            else:
                result[name] = self._means.means(name)
        return result
