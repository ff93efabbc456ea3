"""Invariances of the objective, and what earlier implementations got wrong."""

import jax
import numpy as np
import pytest
from lam_cases import LEVELS, T, V, Z, gradient_and_aux, jitted, lam_task, loss_and_aux

from farsighted_jax.core import tree
from farsighted_jax.core.batch import transition_valid


def assert_same_bits(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_missing_frames_have_no_influence_at_all(trained, batch):
    task, params, state = trained
    missing = ~batch["frame_valid"]
    garbage = dict(batch, rgb=batch["rgb"].copy(), depth=batch["depth"].copy(), time_s=batch["time_s"].copy())
    garbage["rgb"][missing] = 255
    garbage["depth"][missing] = 1e6
    results = [gradient_and_aux(task, params, state, b) for b in (batch, garbage)]
    assert_same_bits(*results)
    states = [jitted(task, "next_model_state")(state, updates) for (_, (_, updates)), _ in results]
    assert_same_bits(*states)


def test_every_parameter_gets_a_gradient(trained, batch):
    task, params, state = trained
    _, grads = gradient_and_aux(task, params, state, batch)
    dead = [path for path, grad in tree.flat_paths(grads).items() if not np.any(grad)]
    # Keys ignore a constant, so a bias in front of them alone could be dead; there is none.
    assert not dead
    assert all(np.isfinite(grad).all() for grad in jax.tree.leaves(grads))


def test_permuting_the_batch_permutes_nothing_else(trained, batch):
    task, params, state = trained
    order = np.array([3, 1, 5, 0, 4, 2])
    mixed = {name: array[order] for name, array in batch.items()}
    loss, (metrics, updates) = loss_and_aux(task, params, state, batch)
    mixed_loss, (mixed_metrics, mixed_updates) = loss_and_aux(task, params, state, mixed)
    assert mixed_loss == pytest.approx(float(loss), rel=1e-5)
    np.testing.assert_array_equal(updates.count_V, mixed_updates.count_V)
    np.testing.assert_allclose(updates.candidate_VU, mixed_updates.candidate_VU, atol=1e-5)
    assert metrics.keys() == mixed_metrics.keys()


def test_pieces_of_a_batch_add_up_to_the_whole(trained, batch):
    task, params, state = trained
    counts = jitted(task, "denominators")(batch)

    def whole_or_part(rows):
        part = {name: array[rows] for name, array in batch.items()}
        return gradient_and_aux(task, params, state, part, counts)

    (loss, (metrics, updates)), grads = whole_or_part(slice(None))
    parts = [whole_or_part(slice(start, start + 2)) for start in (0, 2, 4)]
    assert sum(float(part[0][0]) for part in parts) == pytest.approx(float(loss), rel=1e-5)
    added = jax.tree.map(lambda *leaves: sum(leaves), *[part[1] for part in parts])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), added, grads)
    merged = parts[0][0][1][1]
    for part in parts[1:]:
        merged = task.merge_updates(merged, part[0][1][1])
    np.testing.assert_array_equal(merged.count_V, updates.count_V)
    np.testing.assert_allclose(merged.sum_VU, updates.sum_VU, atol=1e-5)
    np.testing.assert_allclose(merged.candidate_VU, updates.candidate_VU, atol=1e-5)
    for name, (total, count) in metrics.items():
        assert sum(float(part[0][1][0][name][1]) for part in parts) == pytest.approx(float(count))
        assert sum(float(part[0][1][0][name][0]) for part in parts) == pytest.approx(float(total), rel=1e-4)


def test_the_depth_loss_is_part_of_the_total(trained, batch):
    task, params, state = trained
    loss, (metrics, _) = loss_and_aux(task, params, state, batch)
    terms = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert terms["depth"] > 0
    want = terms["rgb"] + 0.1 * terms["depth"] + 0.25 * terms["commit"]
    assert float(loss) == pytest.approx(want, rel=1e-5)


def test_holes_in_the_depth_have_no_influence(trained, batch):
    task, params, state = trained
    garbage = dict(batch, depth=np.where(batch["depth_valid"], batch["depth"], np.float32(np.nan)))
    assert_same_bits(*(gradient_and_aux(task, params, state, b) for b in (batch, garbage)))


def test_the_model_works_without_depth(trained, batch):
    task, params, state = trained
    without = {name: array for name, array in batch.items() if not name.startswith("depth")}
    loss, (metrics, _) = loss_and_aux(task, params, state, without)
    assert "depth" not in metrics
    assert np.isfinite(loss)


@pytest.mark.slow
def test_the_learned_codebook_gets_its_gradient_from_its_own_loss(batch):
    task = lam_task(quantizer="gradient", distance="cosine")
    params, state = jitted(task, "init")(jax.random.key(0), batch)
    assert params["codebook"].shape[0] == V
    _, grads = gradient_and_aux(task, params, state, batch)
    assert np.any(grads["codebook"])
    frozen = dict(params, codebook=params["codebook"] * 1.5)
    # The choice of codes may change, but nothing reaches the codebook through the decoder.
    weights = task.weights.__class__(codebook=0.0)
    silent = task.__class__(task.model, task.quantizer, weights)
    _, grads = gradient_and_aux(silent, frozen, state, batch)
    assert not np.any(grads["codebook"])


@pytest.mark.parametrize(("quantizer", "gathered"), [("ema", True), ("gradient", False), ("fsq", False)])
def test_only_a_codebook_that_restarts_gathers_candidates(quantizer, gathered, batch):
    task = lam_task(quantizer=quantizer)

    def updates(key):
        params, state = task.init(key, batch)
        _, (_, updates) = task.loss(params, state, batch, key, task.denominators(batch))
        return task.merge_updates(updates, updates)

    found = jax.eval_shape(updates, jax.random.key(0))
    assert found.count_tZV.shape == (T - 1, Z, task.quantizer.codebook_size)
    assert all((part is not None) == gathered for part in found[1:])


@pytest.mark.slow
def test_finite_scalars_have_no_codebook_and_mask_missing_frames(batch):
    task = lam_task(quantizer="fsq")
    params, state = jitted(task, "init")(jax.random.key(0), batch)
    assert "codebook" not in params and state.keys() == {"count", "seen"}
    missing = ~batch["frame_valid"]
    garbage = dict(batch, rgb=batch["rgb"].copy())
    garbage["rgb"][missing] = 255
    results = [gradient_and_aux(task, params, state, b) for b in (batch, garbage)]
    assert_same_bits(*results)
    (loss, (metrics, updates)), grads = results[0]
    assert "commit" not in metrics
    terms = {name: float(total / count) for name, (total, count) in metrics.items()}
    assert float(loss) == pytest.approx(terms["rgb"] + 0.1 * terms["depth"], rel=1e-5)
    assert np.any(grads["encoder"]["to_code"]["kernel"])
    assert updates.count_V.sum() == transition_valid(batch["frame_valid"]).sum() * Z
    new_state, shown = jitted(task, "next_model_state")(state, updates)
    assert new_state["seen"] == 1 and 1 <= shown["code_perplexity"][0] <= np.prod(LEVELS)
    outputs = jitted(task, "encode")(params, state, batch)
    assert outputs["code"].dtype == np.int32 and np.abs(outputs["quantized"]).max() <= 1
    np.testing.assert_array_equal(
        task.quantizer.codebook_VU(params, state)[outputs["code"]], outputs["quantized"]
    )
