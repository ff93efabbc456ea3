"""Evaluators of a policy against numbers computed by hand, on functions of a few lines."""

import dataclasses
import json

import numpy as np
import pytest

from farsighted_jax.evaluators.base import ActionScale, EvaluationError, PolicyFunctions
from farsighted_jax.evaluators.registry import POLICY_EVALUATORS, evaluate

V, Z, J, M = 12, 2, 3, 4
SCALE = ActionScale(np.zeros(M), np.array([2.0, 2.0, 2.0, 1.0]))


def policy_batch(batch_of, num=4, seed=0):
    rng = np.random.default_rng(seed)
    batch = batch_of(rng, num=num)
    return batch | {
        "action": rng.normal(size=(num, J, M)).astype(np.float32),
        "action_valid": np.ones((num, J, M), bool),
        "last_action": np.zeros((num, M), np.float32),
        "last_action_valid": np.ones((num, M), bool),
    }


def action_error(batches, predicted, dataset_spec, scale=SCALE):
    functions = PolicyFunctions(V, Z, actions=predicted)
    options = {"datasets": [dataset_spec], "action_scales": [scale]}
    return evaluate(functions, batches, ["action_error"], seed=0, **options)["action_error"].get("toy")


def test_action_errors_by_hand(batch_of, dataset_spec):
    batch = policy_batch(batch_of, num=2)
    batch["action"][:] = 1.0
    batch["action"][:, :, 3] = 0.0
    batch["last_action"][0] = 0.5
    batch["last_action_valid"][1] = False
    predicted = batch["action"] + np.array([0.1, 0.1, 0.1, 0.4], np.float32)
    predicted[:, 2, :3] += 0.3
    found = action_error([batch], lambda _: predicted, dataset_spec)
    mae = found["normalised"]["mae"]
    assert mae["step"]["translation"] == pytest.approx([0.1, 0.1, 0.4], abs=1e-6)
    assert mae["group"] == pytest.approx({"translation": 0.2, "gripper": 0.4}, abs=1e-6)
    assert mae["all"] == pytest.approx((3 * 0.2 + 0.4) / 4, abs=1e-6)
    rmse = found["normalised"]["rmse"]["dimension"]
    assert rmse == pytest.approx(dict.fromkeys("xyz", np.sqrt(0.06)) | {"grip": 0.4}, abs=1e-6)
    # Sample 0 repeats 0.5, sample 1 begins an episode and is guessed the mean, which is 0.
    assert found["normalised"]["mae_mean"]["group"]["translation"] == 1.0
    assert found["normalised"]["mae_repeat"]["group"]["translation"] == 0.75
    assert found["normalised"]["mae_over_mean"]["group"]["translation"] == pytest.approx(0.2, abs=1e-6)
    assert found["normalised"]["mae_over_repeat"]["dimension"]["x"] == pytest.approx(0.2 / 0.75, abs=1e-6)
    assert found["normalised"]["mae_over_mean"]["group"]["gripper"] is None, "nothing to divide by"
    assert found["own_units"]["mae"]["group"] == pytest.approx({"translation": 0.4, "gripper": 0.4}, abs=1e-6)
    assert found["own_units"]["rmse"]["dimension"]["x"] == pytest.approx(2 * np.sqrt(0.06), abs=1e-6)
    assert "all" not in found["own_units"]["mae"] and found["units"]["dimension"]["x"] == "m"
    assert (found["num_chunks"], found["num_at_begin"]) == (2, 1)


def test_what_is_masked_has_no_influence_and_batches_add_up(batch_of, dataset_spec):
    batch = policy_batch(batch_of)
    predicted = np.zeros_like(batch["action"])
    batch["action_valid"][1, 2:] = False
    batch["action_valid"][3] = False
    clean = action_error([batch], lambda _: predicted, dataset_spec)
    dirty = {name: array.copy() for name, array in batch.items()}
    dirty["action"][~batch["action_valid"]] = np.nan
    spoiled = np.where(batch["action_valid"], predicted, np.inf).astype(np.float32)
    assert action_error([dirty], lambda _: spoiled, dataset_spec) == clean
    halves = [{name: array[rows] for name, array in batch.items()} for rows in (slice(2), slice(2, None))]
    assert action_error(halves, lambda half: np.zeros_like(half["action"]), dataset_spec) == clean
    kept = np.concatenate([batch["action"][:1, 2], batch["action"][2:3, 2]])
    assert clean["normalised"]["mae"]["step"]["all"][2] == pytest.approx(np.abs(kept).mean())
    assert clean["num_chunks"] == 3


def test_units_that_differ_are_not_averaged(batch_of, dataset_spec):
    action = dataclasses.replace(dataset_spec.action, units=("m", "m", "mm", "1"))
    batch = policy_batch(batch_of)
    spec = dataclasses.replace(dataset_spec, action=action)
    found = action_error([batch], lambda _: np.zeros_like(batch["action"]), spec)
    assert list(found["own_units"]["mae"]["group"]) == ["gripper"] and found["units"]["group"] == {
        "gripper": "1"
    }
    assert list(found["own_units"]["mae"]["dimension"]) == ["x", "y", "z", "grip"]


def plan_functions(batch, code_BtZ, logit_BnV, free_BnV, valid_Bt=None):
    valid_Bt = np.ones(code_BtZ.shape[:2], bool) if valid_Bt is None else valid_Bt
    free_code = free_BnV.argmax(axis=-1).reshape(code_BtZ.shape)
    return PolicyFunctions(
        V,
        Z,
        logits=lambda _: {"logit": logit_BnV, "code": code_BtZ, "code_valid": valid_Bt},
        plan=lambda _: {"logit": free_BnV, "code": free_code},
    )


def test_plan_accuracy_by_hand(batch_of):
    batch = policy_batch(batch_of, num=4)
    code = np.zeros((4, 2, Z), np.int32)
    code[:, 1, 0] = [3, 3, 3, 5]
    # Teacher forced: always right at 0.2 s, the sixth guess at 0.4 s; free: always right but in one place.
    logit = np.zeros((4, 2 * Z, V), np.float32)
    logit[:, :2, 0] = 10.0
    for sample in range(4):
        for slot in range(Z):
            logit[sample, 2 + slot, 6:11] = 1.0
            logit[sample, 2 + slot, code[sample, 1, slot]] = 0.5
    free = 10 * np.eye(V, dtype=np.float32)[code.reshape(4, -1)]
    free[0, 3] = 10 * np.eye(V)[7]
    found = evaluate(plan_functions(batch, code, logit, free), [batch], ["plan_accuracy"], seed=0)
    found = found["plan_accuracy"]
    assert found["top1"] == {"0.2": 1.0, "0.4": 0.0, "all": 0.5}
    assert found["top5"]["0.4"] == 0.0 and found["top10"]["0.4"] == 1.0
    assert found["top1_free"] == {"0.2": 1.0, "0.4": 7 / 8, "all": 15 / 16}
    assert found["cross_entropy"]["0.2"] == pytest.approx(np.log(np.exp(10) + 11) - 10, abs=1e-5)
    assert found["cross_entropy"]["0.4"] == pytest.approx(np.log(5 * np.e + np.exp(0.5) + 6) - 0.5, abs=1e-5)
    entropy = -(0.75 * np.log(0.75) + 0.25 * np.log(0.25)) / Z
    assert found["unigram_entropy"] == pytest.approx({"0.2": 0.0, "0.4": entropy, "all": entropy / 2})
    assert found["top1_frequent"] == {"0.2": 1.0, "0.4": (0.75 + 1) / 2, "all": (0.75 + 3) / 4}
    assert found["top5_frequent"]["all"] == 1.0
    assert found["num_codes"] == {"0.2": 8, "0.4": 8, "all": 16}


def test_a_code_that_is_not_there_counts_nowhere_and_a_flat_guess_is_no_hit(batch_of):
    batch = policy_batch(batch_of)
    batch["frame_valid"][0, 2] = False
    valid = np.ones((4, 2), bool)
    valid[1] = False
    code = np.full((4, 2, Z), 3, np.int32)
    code[0, 1] = code[1] = 10_000
    flat = np.zeros((4, 2 * Z, V), np.float32)
    flat[1] = np.nan
    functions = plan_functions(batch, code, flat, flat, valid)
    found = evaluate(functions, [batch], ["plan_accuracy"], seed=0)["plan_accuracy"]
    assert found["num_codes"] == {"0.2": 6, "0.4": 4, "all": 10}
    assert found["top10"]["all"] == 0.0, "the true code is one of V equals"
    assert found["cross_entropy"]["all"] == pytest.approx(np.log(V)) and found["unigram_entropy"]["all"] == 0


def test_the_imagined_frame_stands_beside_the_present_one(batch_of):
    batch = policy_batch(batch_of, num=3)
    batch["rgb"][:, 0], batch["rgb"][:, 1], batch["rgb"][:, 2] = 0, 51, 200
    batch["frame_valid"][2, 1:] = False
    batch["depth"][:], batch["depth_valid"][:] = 0.0, True
    frame = np.full(batch["rgb"].shape[:1] + batch["rgb"].shape[2:], 0.3, np.float32)
    depth = np.full((*frame.shape[:3], 1), np.log(1.1) / 0.3, np.float32)
    frame[2] = np.nan
    functions = PolicyFunctions(
        V,
        Z,
        imagined=lambda _: {"rgb": frame, "depth": depth},
        perceptual=lambda predicted, true: np.abs(predicted - true).mean(axis=(2, 3, 4)),
    )
    found = evaluate(functions, [batch], ["imagined_frame"], seed=0)["imagined_frame"]
    assert found["psnr"] == {"0.2": pytest.approx(20.0, abs=1e-5)}
    assert found["psnr_copy"]["0.2"] == pytest.approx(-20 * np.log10(0.2))
    assert found["lpips"]["0.2"] == pytest.approx(0.1, abs=1e-6)
    assert found["depth_abs_rel"]["0.2"] == pytest.approx(0.1, abs=1e-5)
    assert found["depth_abs_rel_copy"]["0.2"] == pytest.approx(0.0, abs=1e-6)
    assert found["num_samples"] == {"0.2": 2} and "psnr_shuffled" not in found


def test_parts_that_a_policy_lacks_have_no_value(batch_of, dataset_spec):
    batch = policy_batch(batch_of)
    names = ["action_error", "plan_accuracy", "imagined_frame"]
    options = {"seed": 0, "datasets": [dataset_spec], "action_scales": [SCALE]}
    found = evaluate(PolicyFunctions(V, Z), [batch], names, **options)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["action_error"] == {} and found["imagined_frame"]["psnr_over_copy"] == {}
    assert found["plan_accuracy"]["top1"] == found["plan_accuracy"]["unigram_entropy"] == {"all": None}
    assert found["plan_accuracy"]["num_codes"] == {"all": 0}


def test_refusals_name_what_is_wrong(batch_of, dataset_spec, functions):
    batch = policy_batch(batch_of)
    policy = PolicyFunctions(V, Z, actions=lambda _: np.zeros((4, J, M + 1)))
    options = {"seed": 0, "datasets": [dataset_spec], "action_scales": [SCALE]}
    with pytest.raises(EvaluationError, match=r"'action': shape \(4, 3, 5\), expected \(4, 3, 4\)"):
        evaluate(policy, [batch], ["action_error"], **options)
    with pytest.raises(EvaluationError, match="'codebook'; known of this model.*plan_accuracy"):
        evaluate(policy, [batch], ["codebook"], **options)
    with pytest.raises(EvaluationError, match="'plan_accuracy'; known of this model.*codebook"):
        evaluate(functions, [batch], ["plan_accuracy"], seed=0)
    with pytest.raises(EvaluationError, match="action_scales"):
        evaluate(policy, [batch], ["action_error"], seed=0)
    with pytest.raises(EvaluationError, match="PolicyFunctions.metrics"):
        evaluate(policy, [batch], ["mean"], seed=0)
    lacking = {name: array for name, array in batch.items() if name != "last_action"}
    right = dataclasses.replace(policy, actions=lambda _: batch["action"])
    with pytest.raises(EvaluationError, match="'last_action'"):
        evaluate(right, [lacking], ["action_error"], **options)
    short = dataclasses.replace(policy, logits=lambda _: {"code": np.zeros((4, 2, Z), np.int32)})
    with pytest.raises(EvaluationError, match="logits returned.*'logit'"):
        evaluate(short, [batch], ["plan_accuracy"], **options)
    assert set(POLICY_EVALUATORS) == {"mean", "action_error", "plan_accuracy", "imagined_frame"}
