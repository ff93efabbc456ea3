import numpy as np
import pytest

from farsighted_jax.evaluators.base import LatentActionFunctions, Setup
from farsighted_jax.evaluators.reconstruction import Reconstruction


def result_of(batch, outputs):
    evaluator = Reconstruction(Setup(8, 2))
    evaluator.update(batch, outputs)
    return evaluator.result()


def constant_outputs(batch, level):
    shape = (batch["rgb"].shape[0], batch["rgb"].shape[1] - 1, *batch["rgb"].shape[2:])
    return {"rgb": np.full(shape, level, np.float32)}


def test_prediction_and_copy_by_hand(batch_of):
    batch = batch_of(np.random.default_rng(0), num=2, t=1, depth=False)
    batch["rgb"][:, 0], batch["rgb"][:, 1] = 0, 51
    result = result_of(batch, constant_outputs(batch, 0.3))
    assert result["psnr"]["0.2"] == pytest.approx(20.0, abs=1e-5)
    assert result["psnr_copy"]["0.2"] == pytest.approx(-20 * np.log10(0.2))
    assert result["psnr_over_copy"]["0.2"] == pytest.approx(20 + 20 * np.log10(0.2), abs=1e-5)
    assert result["num_samples"] == {"0.2": 2}


def test_mean_of_psnr_and_psnr_of_mean_differ_as_documented(batch_of):
    batch = batch_of(np.random.default_rng(0), num=2, t=1, depth=False)
    batch["rgb"][:] = 0
    outputs = constant_outputs(batch, 0.1)
    outputs["rgb"][1] = 0.01
    result = result_of(batch, outputs)
    assert result["psnr"]["0.2"] == pytest.approx((20 + 40) / 2, abs=1e-4)
    assert result["psnr_of_mean_mse"]["0.2"] == pytest.approx(-10 * np.log10((1e-2 + 1e-4) / 2), abs=1e-4)


def test_windows_without_motion_are_left_out_of_moving(batch_of):
    batch = batch_of(np.random.default_rng(0), num=3, t=1, depth=False)
    batch["rgb"][0, 1] = batch["rgb"][0, 0]
    result = result_of(batch, constant_outputs(batch, 0.5))
    assert result["num_samples"] == {"0.2": 3} and result["num_samples_moving"] == {"0.2": 2}
    assert result["psnr_copy"]["0.2"] > 30 > 10 > result["psnr_copy_moving"]["0.2"]


def test_depth_is_compared_in_metres_on_valid_pixels(batch_of):
    batch = batch_of(np.random.default_rng(0), num=2, t=1)
    batch["depth"][:] = 0.0
    outputs = constant_outputs(batch, 0.5)
    outputs["depth"] = np.full((2, 1, 16, 16, 1), np.log(1.1) / 0.3, np.float32)
    outputs["depth"][~batch["depth_valid"][:, 1:]] = np.nan
    result = result_of(batch, outputs)
    assert result["depth_abs_rel"]["0.2"] == pytest.approx(0.1, abs=1e-5)
    assert result["depth_rmse"]["0.2"] == pytest.approx(0.1 * np.exp(0.5), abs=1e-5)
    assert result["depth_delta"]["0.2"] == 1.0
    assert result["depth_abs_rel_copy"]["0.2"] == pytest.approx(0.0, abs=1e-6)


def test_horizons_are_real_seconds_across_frame_rates(batch_of):
    rng = np.random.default_rng(0)
    slow, fast = batch_of(rng, num=2, t=2, depth=False), batch_of(rng, num=3, t=2, hz=10.0, depth=False)
    evaluator = Reconstruction(Setup(8, 2))
    for batch in (slow, fast):
        evaluator.update(batch, constant_outputs(batch, 0.5))
    assert evaluator.result()["num_samples"] == {"0.1": 3, "0.2": 5, "0.4": 2}


def test_a_perceptual_distance_stands_beside_copy_and_shuffled(batch_of):
    batch = batch_of(np.random.default_rng(0), num=3, t=2, depth=False)
    batch["frame_valid"][2, 2] = False
    batch["rgb"][:, 0], batch["rgb"][:, 1:] = 0, 51
    outputs = constant_outputs(batch, 0.3)
    outputs["rgb_shuffled"] = np.full_like(outputs["rgb"], 0.7)
    outputs["rgb"][2, 1] = outputs["rgb_shuffled"][2, 1] = np.nan
    outputs["shuffle_valid"] = np.array([[True, True], [True, True], [False, False]])
    shapes = []

    def difference(predicted, true):
        shapes.append(predicted.shape)
        return np.abs(predicted - true).mean(axis=(2, 3, 4))

    functions = LatentActionFunctions(None, None, 8, 2, perceptual=difference)
    evaluator = Reconstruction(Setup(8, 2, functions=functions))
    evaluator.update(batch, outputs)
    result = evaluator.result()
    for name, want in (("lpips", 0.1), ("lpips_copy", 0.2), ("lpips_shuffled", 0.5)):
        assert result[name] == pytest.approx({"0.2": want, "0.4": want}, abs=1e-6)
    assert set(shapes) == {(3, 2, *batch["rgb"].shape[2:])}
    assert "lpips" not in result_of(batch, outputs)


def test_relative_depth_is_counted_apart_after_scale_and_shift(batch_of):
    batch = batch_of(np.random.default_rng(0), num=3, t=1)
    batch["depth_valid"][:2] = False
    depth = np.random.default_rng(1).normal(size=(3, 2, 16, 16, 1))
    outputs = constant_outputs(batch, 0.5)
    outputs["depth"] = 3 * depth[:, 1:] + 7
    outputs["depth"][1] = -outputs["depth"][1]
    outputs["depth_shuffled"], outputs["shuffle_valid"] = 0 * outputs["depth"], np.ones((3, 1), bool)
    relative_BT = np.array([[True, True], [True, True], [False, False]])
    functions = LatentActionFunctions(None, None, 8, 2, relative_depth=lambda _: (depth, relative_BT))
    evaluator = Reconstruction(Setup(8, 2, functions=functions))
    evaluator.update(batch, outputs)
    result = evaluator.result()
    spread_B = np.abs(depth[:, 1] - depth[:, 1].mean(axis=(1, 2, 3), keepdims=True)).mean(axis=(1, 2, 3))
    # Exact in the first clip; in the second near and far are swapped, which is no better than flat.
    assert result["depth_relative_error"]["0.2"] == pytest.approx(spread_B[1] / 2)
    assert result["depth_relative_error_shuffled"]["0.2"] == pytest.approx(spread_B[:2].mean())
    assert result["depth_relative_error_copy"]["0.2"] == pytest.approx(spread_B[:2].mean(), rel=0.02)
    assert result["num_depth_relative"] == {"0.2": 2} and result["num_depth"] == {"0.2": 1}
    plain = result_of(batch, outputs)
    assert plain == {name: values for name, values in result.items() if "relative" not in name}
