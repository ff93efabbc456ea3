"""Controllability, composition, transfer and gap robustness on models whose answer is known."""

import dataclasses
import json

import numpy as np
import pytest
from motion_oracle import Z, displacement, model, motion_batch, motion_spec

from farsighted_jax.evaluators.base import EvaluationError
from farsighted_jax.evaluators.probe_fit import ProbeRows, held_out_predictions, r2_by_group
from farsighted_jax.evaluators.random_codes import CodeFrequencies
from farsighted_jax.evaluators.reclip import reclipped
from farsighted_jax.evaluators.registry import GapBatches, evaluate
from farsighted_jax.evaluators.transfer import other_episode


def score(name, functions, batches, fit=None, **kwargs):
    result = evaluate(functions, batches, [name], seed=0, datasets=[motion_spec()], fit_batches=fit, **kwargs)
    json.dumps(result, allow_nan=False)
    return result[name]


def test_random_codes_keep_the_frequencies_of_each_slot_and_invent_none():
    frequencies = CodeFrequencies(2, 9)
    code = np.array([[0, 5], [0, 6], [0, 6], [3, 6]])
    frequencies.add(code, np.stack([code, 10 * code], axis=-1).astype(np.float32))
    drawn = frequencies.draw(np.random.default_rng(0), (4000,))
    assert drawn.shape == (4000, 2, 2) and frequencies.num_seen == 4
    assert set(map(tuple, drawn[:, 0])) == {(0, 0), (3, 30)} and set(drawn[:, 1, 0]) == {5, 6}
    assert (drawn[:, 0, 0] == 3).mean() == pytest.approx(0.25, abs=0.03)
    # Slots are independent: the tuple (3, 5) never stood in the data.
    assert ((drawn[:, 0, 0] == 3) & (drawn[:, 1, 0] == 5)).any()


@pytest.mark.parametrize("with_fit", [True, False])
def test_controllability_is_large_where_codes_steer_and_zero_where_they_do_not(with_fit):
    batches, fit = [motion_batch(0)], [motion_batch(1)] if with_fit else None
    steered = score("controllability", model(), batches, fit)
    assert steered["psnr"] == {"0.2": 100.0, "0.4": 100.0}
    assert min(steered["delta_psnr"].values()) > 20 and min(steered["response"].values()) > 0
    ignored = score("controllability", model(paints=False), batches, fit)
    assert ignored["delta_psnr"] == {"0.2": 0.0, "0.4": 0.0} == ignored["response"]
    assert ignored["num_samples"] == {"0.2": 24, "0.4": 24}
    assert ("fit split" in steered["protocol"]) == with_fit


def test_an_additive_code_scores_zero_error_and_shuffled_codes_do_not():
    found = score("composition", model(), [motion_batch(seed, t=3) for seed in range(2)])
    for space in ("quantized", "encoded"):
        errors = found[space]
        assert set(errors["additivity"]) == {"0.4", "0.6"}
        assert set(errors["reversal"]) == {"0.2", "0.4", "0.6"}
        for law in ("additivity", "reversal"):
            assert max(errors[law].values()) == 0 and max(errors[f"{law}_centred"].values()) < 1e-9
            assert min(errors[f"{law}_shuffled"].values()) > 0.3
        assert min(errors["first_alone"].values()) > 0.1 and min(errors["unreversed"].values()) > 2
    assert found["num_samples"]["additivity"] == {"0.4": 48, "0.6": 48}


def test_composition_tells_an_offset_from_a_code_without_direction():
    shifted = score("composition", model(lambda moved, _: moved + 5), [motion_batch(0)])["encoded"]
    assert shifted["additivity"]["0.4"] > 1 and shifted["reversal"]["0.2"] > 1
    assert shifted["additivity_centred"]["0.4"] < 1e-9 and shifted["reversal_centred"]["0.2"] < 1e-9
    unsigned = score("composition", model(lambda moved, _: np.abs(moved)), [motion_batch(0)])["encoded"]
    assert unsigned["unreversed"]["0.2"] == 0 and unsigned["reversal"]["0.2"] > 1
    assert unsigned["additivity"]["0.4"] > 0.1
    constant = score("composition", model(lambda moved, _: 0 * moved), [motion_batch(0)])["encoded"]
    assert constant["additivity"]["0.4"] is None


def test_a_pair_has_no_sums_but_can_be_reversed():
    found = score("composition", model(), [motion_batch(0, t=1)])
    assert found["num_samples"]["additivity"] == {} and found["encoded"]["reversal"] == {"0.2": 0.0}


def test_reclipped_takes_frames_in_order_and_masks_the_rest():
    batch = motion_batch(0, t=3)
    batch["frame_valid"][1, 2:] = False
    backward = reclipped(batch, (2, 1, 0))
    np.testing.assert_array_equal(backward["rgb"][:, :3], batch["rgb"][:, 2::-1])
    np.testing.assert_allclose(backward["time_s"][0], [0, 0.2, 0.4, 0], atol=1e-6)
    np.testing.assert_array_equal(backward["frame_valid"][:2], [[1, 1, 1, 0], [0, 1, 1, 0]])
    np.testing.assert_array_equal(displacement(backward)[0, 1], -displacement(batch)[0, 1])


def test_masked_frames_have_no_influence():
    rng = np.random.default_rng(0)
    names = ["controllability", "composition", "transfer"]
    results = []
    for spoil in (False, True):
        batch = motion_batch(0, num=30, t=3)
        batch["frame_valid"][::5, 2:] = batch["frame_valid"][3] = False
        batch["time_s"][~batch["frame_valid"]] = 0
        if spoil:
            batch["rgb"][~batch["frame_valid"]] = rng.integers(0, 256, (1,))
            batch["action_sum"][~batch["frame_valid"][:, 1:]] = np.nan
        batch["action_sum_valid"] &= batch["frame_valid"][:, 1:, None]
        results.append(evaluate(model(), [batch], names, seed=0, datasets=[motion_spec()]))
    assert json.dumps(results[0], allow_nan=False) == json.dumps(results[1], allow_nan=False)
    assert results[0]["controllability"]["num_samples"] == {"0.2": 29, "0.4": 23, "0.6": 23}


@pytest.mark.parametrize("with_fit", [True, False])
def test_transfer_of_exact_codes_agrees_and_of_ignored_codes_does_not(with_fit):
    batches, fit = [motion_batch(s, first_episode=12 * s) for s in range(2)], None
    if with_fit:
        fit = [motion_batch(5, num=60)]
    exact = score("transfer", model(), batches, fit)["moving"]
    ignored = score("transfer", model(paints=False), batches, fit)["moving"]
    for horizon in ("0.2", "0.4"):
        assert exact["code_agreement"][horizon] == exact["code_agreement_own"][horizon] == 1
        assert exact["vector_error"][horizon] == 0 < 1 < exact["vector_error_unmoved"][horizon]
        assert exact["probe_agreement"][horizon]["translation"] > 0.999
        assert exact["probe_r2"][horizon]["translation"] > 0.999
        assert exact["probe_r2_unmoved"][horizon]["translation"] < 0.3
        assert ignored["code_agreement"][horizon] < 0.6 and ignored["vector_error"][horizon] > 0.9
        assert ignored["probe_r2"][horizon]["translation"] < 0.1
        assert ignored["probe_r2_source"][horizon]["translation"] > 0.999
    assert exact["num_samples"] == {"0.2": 48, "0.4": 48}


def test_transfer_partners_are_of_another_episode():
    batch = motion_batch(0, num=10)
    valid = np.arange(10) != 4
    source, possible = other_episode(batch, valid, np.random.default_rng(0))
    np.testing.assert_array_equal(possible, valid)
    assert (batch["episode"][source] != batch["episode"])[valid].all() and valid[source[valid]].all()
    alone = {**batch, "episode": np.zeros(10, np.int32)}
    assert not other_episode(alone, valid, np.random.default_rng(0))[1].any()


@pytest.mark.parametrize("same_split", [True, False])
def test_a_probe_never_reads_an_episode_it_was_fitted_on(same_split):
    """Targets constant in an episode, features that name it: a split inside episodes would score 1."""
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(12), 5)
    x, y = np.eye(12)[episode], rng.normal(size=(12, 2))[episode]
    rows = ProbeRows(x, y, episode) if same_split else ProbeRows(x[30:], y[30:], episode[30:])
    scored = slice(0, 60 if same_split else 30)
    groups = {"all": [0, 1]}
    found = held_out_predictions(rows, x[scored], episode[scored], groups, 0, same_split=same_split)
    assert np.isfinite(found).all() and r2_by_group(y[scored], found, groups)["all"] < 0.05
    few = ProbeRows(x[:5], y[:5], episode[:5])
    assert np.isnan(held_out_predictions(few, x[5:], episode[5:], groups, 0, same_split=same_split)).all()


def gap_streams(multiples, with_fit, seed=0):
    def at(multiple, offset):
        sizes = {"num": 40, "multiple": multiple}
        batches = [motion_batch(seed + offset + i, **sizes, first_episode=20 * i) for i in (0, 1)]
        batches[1]["frame_valid"][-3:, -1] = False
        return batches

    return {m: GapBatches(at(m, 0), at(m, 10) if with_fit else None) for m in multiples}


@pytest.mark.parametrize("with_fit", [True, False])
def test_gap_robustness_of_exact_short_sighted_and_rescaled_codes(with_fit):
    streams = gap_streams((1, 4), with_fit)
    exact, short, rescaled = (
        score("gap_robustness", model(shaped), [], gaps=streams)["moving"]
        for shaped in (
            lambda moved, _: moved,
            lambda moved, _: np.clip(moved, -3, 3),
            lambda moved, batch: moved * (0.4 / np.maximum(batch["time_s"][:, -1:, None], 0.1)) ** 2,
        )
    )

    def r2(found, protocol, m, feature="encoded"):
        return found["r2"][protocol][feature][m]["translation"]

    assert exact["gap_s"] == {"1": 0.4, "4": 1.6}
    assert exact["num_score"] == {"1": 77, "4": 77}
    for m in ("1", "4"):
        assert r2(exact, "fitted_per_gap", m) > 0.999 and r2(exact, "fitted_at_1", m) > 0.999
        assert r2(exact, "fitted_per_gap", m, "shuffled") < 0.2
        assert r2(rescaled, "fitted_per_gap", m) > 0.999
        assert exact["psnr"][m] == 100 and exact["delta_psnr"][m] > 20
        low, high = exact["r2_interval"]["fitted_at_1"]["quantized"][m]["translation"]
        assert 0.99 < low <= high
    assert r2(short, "fitted_per_gap", "1") > r2(short, "fitted_per_gap", "4") + 0.05
    assert r2(short, "fitted_at_1", "4") < r2(short, "fitted_per_gap", "4")
    assert r2(rescaled, "fitted_at_1", "1") > 0.999 and r2(rescaled, "fitted_at_1", "4") < 0.5
    assert short["psnr"]["1"] > short["psnr"]["4"]


def test_gap_robustness_reads_the_last_transition_alone():
    streams = gap_streams((1,), True)

    def last_only(moved, _):
        kept = np.zeros_like(moved)
        kept[:, -1] = moved[:, -1]
        return kept

    found = score("gap_robustness", model(last_only), [], gaps=streams)["moving"]
    assert found["r2"]["fitted_at_1"]["encoded"]["1"]["translation"] > 0.999


def test_gap_robustness_decodes_the_last_frame_alone():
    exact, decoded = model(), []

    def decode(batch, quantized):
        decoded.append((quantized.shape[1], batch["time_s"].shape[1]))
        return exact.decode(batch, quantized)

    streams = gap_streams((1,), True)
    found = score("gap_robustness", dataclasses.replace(exact, decode=decode), [], gaps=streams)["moving"]
    assert set(decoded) == {(1, 2)} and found["psnr"]["1"] == 100


def test_a_gap_without_a_window_is_counted_as_none():
    streams = gap_streams((1, 8), True)
    for batch in [*streams[8].batches, *streams[8].fit_batches]:
        batch["frame_valid"][:, -1] = False
    found = score("gap_robustness", model(), [], gaps=streams)["moving"]
    assert found["num_score"] == {"1": 77, "8": 0} and found["gap_s"] == {"1": 0.4}
    assert set(found["r2"]["fitted_per_gap"]["encoded"]) == {"1"} == set(found["delta_psnr"])


def test_gap_robustness_refuses_without_batches_at_the_trained_gap():
    with pytest.raises(EvaluationError, match="m = 1"):
        score("gap_robustness", model(), [motion_batch(0)])
    with pytest.raises(EvaluationError, match=r"m = 1.*\(2,\)"):
        score("gap_robustness", model(), [], gaps=gap_streams((2,), False))
    assert Z == 2
