import numpy as np
import pytest

from farsighted_jax.evaluators.base import EvaluationError, Setup
from farsighted_jax.evaluators.codebook import CodebookUsage, perplexity, usage


def test_perplexity_is_one_for_one_code_and_v_for_uniform_use():
    assert perplexity(np.array([0, 9, 0])) == pytest.approx(1.0)
    assert perplexity(np.full(7, 3)) == pytest.approx(7.0)
    assert perplexity(np.array([3, 1])) == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    assert usage(np.array([0, 9, 0, 1])) == 0.5


def test_counts_by_hand(batch_of):
    batch = batch_of(np.random.default_rng(0), num=3, t=2)
    batch["frame_valid"][2, 2] = False
    code = np.array([[[0, 1], [0, 2]], [[0, 1], [3, 2]], [[1, 1], [7, 7]]], np.int32)
    evaluator = CodebookUsage(Setup(codebook_size=8, num_slots=2))
    evaluator.update(batch, {"code": code})
    result = evaluator.result()
    assert result["num_samples"] == {"0.2": 3, "0.4": 2, "all": 5}
    assert result["usage_per_slot"] == {"0.2": [2 / 8, 1 / 8], "0.4": [2 / 8, 1 / 8], "all": [3 / 8, 2 / 8]}
    assert result["usage"] == {"0.2": 2 / 8, "0.4": 3 / 8, "all": 4 / 8}
    assert result["distinct_tuples"] == {"0.2": 2, "0.4": 2, "all": 4}
    assert result["perplexity_per_slot"]["0.4"] == pytest.approx([2.0, 1.0])
    assert result["counts_per_slot"]["all"][0] == [3, 1, 0, 1, 0, 0, 0, 0]


def test_a_code_outside_the_codebook_is_refused(batch_of):
    batch = batch_of(np.random.default_rng(0), num=2, t=1)
    evaluator = CodebookUsage(Setup(codebook_size=8, num_slots=2))
    with pytest.raises(EvaluationError, match=r"\[0, 8\].*\[0, 7\]"):
        evaluator.update(batch, {"code": np.array([[[0, 8]], [[1, 1]]], np.int32)})


def test_no_valid_sample_is_said(batch_of):
    batch = batch_of(np.random.default_rng(0), num=2, t=1)
    batch["frame_valid"][:] = False
    evaluator = CodebookUsage(Setup(codebook_size=8, num_slots=2))
    evaluator.update(batch, {"code": np.zeros((2, 1, 2), np.int32)})
    assert evaluator.result() == {"num_samples": {"all": 0}}
