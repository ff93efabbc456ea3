import dataclasses
import json

import numpy as np
import pytest

from farsighted_jax.evaluators.base import EvaluationError
from farsighted_jax.evaluators.outputs import model_outputs, shuffled_source
from farsighted_jax.evaluators.registry import EVALUATORS, evaluate

NAMES = ["reconstruction", "codebook", "latent_probe"]


def spoiled(batch, rng):
    """The same batch with garbage wherever a mask says there is nothing."""
    batch = {name: array.copy() for name, array in batch.items()}
    missing = ~batch["frame_valid"]
    batch["rgb"][missing] = rng.integers(0, 256, batch["rgb"][missing].shape)
    batch["time_s"][missing] = np.nan
    batch["depth"][missing] = np.nan
    batch["depth"][~batch["depth_valid"]] = np.inf
    batch["action_sum"][missing[:, 1:]] = np.nan
    batch["action_sum"][missing[:, 0]] = 1e30
    return batch


def masked_batches(batch_of, seed):
    rng = np.random.default_rng(seed)
    batches = [batch_of(rng, num=12, first_episode=6 * i) for i in range(3)]
    for batch in batches:
        batch["frame_valid"][1, 2:] = False
        batch["action_sum_valid"][1, 1:] = False
    batches[-1]["frame_valid"][8:] = False
    batches[-1]["action_sum_valid"][8:] = False
    return batches


@pytest.mark.filterwarnings("ignore:invalid value encountered")
@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_garbage_in_masked_places_changes_no_bit(functions, batch_of, dataset_spec):
    clean, fit = masked_batches(batch_of, 0), masked_batches(batch_of, 1)
    rng = np.random.default_rng(2)
    options = {"seed": 0, "datasets": [dataset_spec]}
    expected = evaluate(functions, clean, NAMES, fit_batches=fit, **options)
    found = evaluate(
        functions,
        [spoiled(b, rng) for b in clean],
        NAMES,
        fit_batches=[spoiled(b, rng) for b in fit],
        **options,
    )
    assert json.dumps(found, allow_nan=False) == json.dumps(expected, allow_nan=False)
    assert expected["reconstruction"]["num_samples"] == {"0.2": 32, "0.4": 29}
    assert expected["latent_probe"]["toy"]["num_score"] == {"0.2": 32, "0.4": 29}


def test_each_batch_is_encoded_once_and_decoded_twice(functions, batch_of, dataset_spec):
    calls = {"encode": 0, "decode": 0}

    def counted(name):
        def call(*args):
            calls[name] += 1
            return getattr(functions, name)(*args)

        return call

    counting = dataclasses.replace(functions, encode=counted("encode"), decode=counted("decode"))
    batches, fit = masked_batches(batch_of, 0), masked_batches(batch_of, 1)
    evaluate(counting, batches, NAMES, seed=0, datasets=[dataset_spec], fit_batches=fit)
    assert calls == {"encode": 6, "decode": 6}
    evaluate(counting, batches, ["codebook"], seed=0)
    assert calls == {"encode": 9, "decode": 6}


def test_jitted_functions_give_the_same_results(functions, batch_of, dataset_spec):
    import jax
    import jax.numpy as jnp

    def decode(batch, quantized_BtZU):
        level = jax.nn.sigmoid(quantized_BtZU.sum(axis=(2, 3)))[..., None, None, None]
        shape = (*quantized_BtZU.shape[:2], *batch["rgb"].shape[2:4])
        return {"rgb": jnp.broadcast_to(level, (*shape, 3)), "depth": jnp.broadcast_to(level, (*shape, 1))}

    batches = masked_batches(batch_of, 0)
    expected = evaluate(functions, batches, NAMES, seed=0, datasets=[dataset_spec])["reconstruction"]
    jitted = dataclasses.replace(functions, decode=jax.jit(decode))
    found = evaluate(jitted, batches, NAMES, seed=0, datasets=[dataset_spec])["reconstruction"]
    for name, by_horizon in expected.items():
        assert found[name] == pytest.approx(by_horizon, abs=1e-3), name


def test_shuffle_is_a_derangement_among_valid_samples():
    rng = np.random.default_rng(0)
    valid = rng.random((9, 4)) < 0.6
    valid[:, 3] = False
    valid[5, 3] = True
    for _ in range(20):
        source, possible = shuffled_source(valid, rng)
        np.testing.assert_array_equal(possible[:, :3], valid[:, :3])
        assert not possible[:, 3].any()
        for k in range(3):
            rows = np.flatnonzero(valid[:, k])
            assert set(source[rows, k]) == set(rows) and (source[rows, k] != rows).all()


def test_shuffled_prediction_is_decoded_from_another_samples_codes(functions, batch_of):
    batch = batch_of(np.random.default_rng(0), num=4)
    outputs = model_outputs(functions, batch, np.random.default_rng(1))
    source, _ = shuffled_source(batch["frame_valid"][:, 1:], np.random.default_rng(1))
    np.testing.assert_array_equal(outputs["rgb_shuffled"], outputs["rgb"][source, np.arange(2)])


def test_task_metrics_add_up_sums_and_counts(functions, batch_of):
    batches = masked_batches(batch_of, 0)

    def metrics(batch):
        return {"loss": (batch["frame_valid"].sum() * 2.0, batch["frame_valid"].sum()), "empty": (0.0, 0)}

    result = evaluate(dataclasses.replace(functions, metrics=metrics), batches, ["mean"], seed=0)["mean"]
    assert result == {"mean": {"loss": 2.0, "empty": None}, "count": {"loss": 93.0, "empty": 0.0}}


def test_refusals_name_what_is_wrong(functions, batch_of):
    batch = batch_of(np.random.default_rng(0))
    with pytest.raises(EvaluationError, match="'psnr'.*codebook"):
        evaluate(functions, [batch], ["psnr"], seed=0)
    with pytest.raises(EvaluationError, match="no batch"):
        evaluate(functions, [], ["codebook"], seed=0)
    with pytest.raises(EvaluationError, match="metrics"):
        evaluate(functions, [batch], ["mean"], seed=0)
    with pytest.raises(EvaluationError, match="specifications"):
        evaluate(functions, [batch], ["latent_probe"], seed=0)
    with pytest.raises(EvaluationError, match=r"'code'.*\(6, 2, 3\)"):
        evaluate(dataclasses.replace(functions, num_slots=3), [batch], ["codebook"], seed=0)
    expected = {"mean", "reconstruction", "codebook", "latent_probe"}
    expected |= {"controllability", "composition", "transfer", "gap_robustness"}
    assert set(EVALUATORS) == expected
