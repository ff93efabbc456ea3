import dataclasses

import numpy as np
import pytest

from farsighted_jax.evaluators.base import EvaluationError
from farsighted_jax.evaluators.registry import evaluate


def probe(functions, score, spec, fit=None, **kwargs):
    result = evaluate(functions, score, ["latent_probe"], seed=0, datasets=[spec], fit_batches=fit, **kwargs)
    return result["latent_probe"][spec.name]


@pytest.mark.parametrize("with_fit", [True, False])
def test_linear_codes_score_one_and_shuffled_codes_about_nothing(functions, batch_of, dataset_spec, with_fit):
    rng = np.random.default_rng(0)
    fit = [batch_of(rng, num=40, first_episode=20 * i, depth=False) for i in range(2)]
    score = [batch_of(rng, num=30, depth=False)]
    found = probe(functions, score if with_fit else fit, dataset_spec, fit if with_fit else None)
    for horizon in ("0.2", "0.4"):
        for group in ("translation", "gripper"):
            assert found["r2"]["quantized"][horizon][group] > 0.9999
            assert found["r2"]["encoded"][horizon][group] > 0.9999
            assert found["r2"]["shuffled"][horizon][group] < 0.2
            assert found["r2"]["frame0"][horizon][group] < 0.2
            low, high = found["r2_interval"]["quantized"][horizon][group]
            assert 0.999 < low <= high <= 1.0
    assert found["num_score"]["0.2"] == (30 if with_fit else 80)
    assert found["num_fit_episodes"]["0.2"] == 40
    assert set(found["r2_per_dimension"]["quantized"]["0.2"]) == {"x", "y", "z", "grip"}
    assert "true_motion" not in found["r2"]


def test_true_motion_is_the_ceiling(functions, batch_of, dataset_spec):
    batch = batch_of(np.random.default_rng(0), num=24, depth=False)
    found = probe(functions, [batch], dataset_spec, true_motion=lambda b: b["action_sum"][..., :3])
    assert found["r2"]["true_motion"]["0.2"]["translation"] > 0.999
    assert found["r2"]["true_motion"]["0.2"]["gripper"] < 0.3


@pytest.mark.parametrize("num", [1, 2, 4, 6, 7])
def test_few_samples_give_numbers_or_none_but_no_crash(functions, batch_of, dataset_spec, num):
    batch = batch_of(np.random.default_rng(0), num=num, depth=False)
    found = probe(functions, [batch], dataset_spec)
    assert found["num_score"]["0.2"] == num
    assert (found["r2"]["quantized"]["0.2"]["translation"] is None) == (num <= 4)
    fitted = probe(
        functions, [batch], dataset_spec, fit=[batch_of(np.random.default_rng(1), num=4, depth=False)]
    )
    assert fitted["num_fit"]["0.2"] == 4


def test_a_mixture_is_probed_per_dataset(functions, batch_of, dataset_spec):
    rng = np.random.default_rng(0)
    video = dataclasses.replace(dataset_spec, name="video", action=None)
    other = dataclasses.replace(dataset_spec, name="other")
    batch = batch_of(rng, num=30, depth=False)
    batch["dataset"] = np.array([0, 0, 1, 1, 2, 2] * 5, np.int32)
    specs = [dataset_spec, video, other]
    found = evaluate(functions, [batch], ["latent_probe"], seed=0, datasets=specs)["latent_probe"]
    assert found["toy"]["num_score"] == found["other"]["num_score"] == {"0.2": 10, "0.4": 10}
    assert list(found["video"]) == ["protocol"] and "no action" in found["video"]["protocol"]


def test_missing_actions_and_unknown_datasets_are_named(functions, batch_of, dataset_spec):
    batch = batch_of(np.random.default_rng(0), num=4, dataset=3, depth=False)
    with pytest.raises(EvaluationError, match="'dataset' holds 3.*toy"):
        probe(functions, [batch], dataset_spec)
    incomplete = {name: value for name, value in batch.items() if name != "action_sum_valid"}
    with pytest.raises(EvaluationError, match="action_sum_valid"):
        probe(functions, [incomplete], dataset_spec)


def test_knowing_the_episode_alone_scores_nothing(functions, batch_of, dataset_spec):
    """Actions constant in an episode, features that name it: only a split inside episodes could use that."""
    rng = np.random.default_rng(0)
    batch = batch_of(rng, num=60, t=1, depth=False)
    batch["episode"] = np.repeat(np.arange(12, dtype=np.int32), 5)
    batch["action_sum"] = rng.normal(size=(12, 1, 4)).astype(np.float32)[batch["episode"]]
    names = np.eye(12, dtype=np.float32)[batch["episode"]][:, None]
    found = probe(functions, [batch], dataset_spec, true_motion=lambda _: names)
    assert found["r2"]["true_motion"]["0.2"]["translation"] < 0.05


def test_unknown_actions_of_real_frames_are_left_out(functions, batch_of, dataset_spec):
    batch = batch_of(np.random.default_rng(0), num=20, depth=False)
    batch["action_sum_valid"][4:7, 1, 2] = False
    expected = probe(functions, [batch], dataset_spec)
    batch["action_sum"][4:7, 1] = 1e3
    assert expected["num_score"] == {"0.2": 20, "0.4": 17}
    assert probe(functions, [batch], dataset_spec) == expected
