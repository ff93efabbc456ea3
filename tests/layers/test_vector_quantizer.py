import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.layers import vector_quantizer as vq

V, U = 7, 5


@pytest.fixture
def vectors():
    rng = np.random.default_rng(0)
    z_BZU = rng.normal(size=(6, 3, U)).astype(np.float32)
    codebook_VU = rng.normal(size=(V, U)).astype(np.float32)
    valid_B = np.array([1, 1, 0, 1, 0, 1], bool)
    priority_BZ = rng.uniform(size=(6, 3)).astype(np.float32)
    return z_BZU, codebook_VU, valid_B, priority_BZ


def updates_of(z_BZU, codebook_VU, valid_B, priority_BZ):
    code_BZ, _ = vq.nearest_code(z_BZU, codebook_VU)
    return vq.codebook_updates(z_BZU, code_BZ, valid_B, priority_BZ, V)


def assert_equal(first, second):
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_nearest_code_equals_a_loop(vectors):
    z_BZU, codebook_VU, _, _ = vectors
    code_BZ, quantized_BZU = vq.nearest_code(z_BZU, codebook_VU)
    for b in range(6):
        for z in range(3):
            distances = [np.sum((z_BZU[b, z] - row) ** 2) for row in codebook_VU]
            assert code_BZ[b, z] == int(np.argmin(distances))
    np.testing.assert_array_equal(quantized_BZU, codebook_VU[code_BZ])


def test_a_tie_goes_to_the_lowest_index():
    codebook = jnp.array([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    code, _ = vq.nearest_code(jnp.array([[[1.0, 0.0]]]), codebook)
    assert code.item() == 0


def test_code_choice_does_not_depend_on_half_precision(vectors):
    z_BZU, codebook_VU, _, _ = vectors
    half = jnp.asarray(z_BZU, jnp.bfloat16)
    code, quantized = vq.nearest_code(half, codebook_VU)
    want, _ = vq.nearest_code(half.astype(jnp.float32), codebook_VU)
    np.testing.assert_array_equal(code, want)
    assert quantized.dtype == jnp.bfloat16


def test_straight_through_passes_the_gradient_to_the_encoder_alone(vectors):
    z_BZU, codebook_VU, _, _ = vectors
    weight = np.arange(z_BZU.size, dtype=np.float32).reshape(z_BZU.shape)

    def value(z, codebook):
        return jnp.sum(weight * vq.straight_through(z, vq.nearest_code(z, codebook)[1]))

    to_encoder, to_codebook = jax.grad(value, argnums=(0, 1))(z_BZU, codebook_VU)
    np.testing.assert_array_equal(to_encoder, weight)
    assert not np.any(to_codebook)


def test_counts_and_sums_equal_a_loop_over_valid_vectors(vectors):
    z_BZU, codebook_VU, valid_B, _ = vectors
    updates = updates_of(*vectors)
    code_BZ, _ = vq.nearest_code(z_BZU, codebook_VU)
    for v in range(V):
        chosen = [z_BZU[b, z] for b in np.flatnonzero(valid_B) for z in range(3) if code_BZ[b, z] == v]
        assert updates.count_V[v] == len(chosen)
        np.testing.assert_allclose(updates.sum_VU[v], np.sum(chosen, axis=0) if chosen else 0, atol=1e-5)


@pytest.mark.parametrize("garbage", [1e30, np.nan, np.inf])
def test_masked_vectors_change_no_bit_of_the_state(vectors, garbage):
    z_BZU, codebook_VU, valid_B, priority_BZ = vectors
    state = vq.initial_codebook(jax.random.key(0), V, U)
    dirty_BZU = np.where(valid_B[:, None, None], z_BZU, np.float32(garbage))
    results = [
        vq.updated_codebook(
            state, updates_of(z, codebook_VU, valid_B, priority_BZ), decay=0.9, restart_below=0.1
        )
        for z in (z_BZU, dirty_BZU)
    ]
    assert_equal(*results)


def test_candidates_are_valid_vectors_with_the_best_ranks(vectors):
    z_BZU, _, valid_B, priority_BZ = vectors
    updates = updates_of(*vectors)
    order = sorted(
        ((priority_BZ[b, z], b, z) for b in np.flatnonzero(valid_B) for z in range(3)), reverse=True
    )
    for v, (priority, b, z) in enumerate(order[:V]):
        assert updates.priority_V[v] == priority
        np.testing.assert_array_equal(updates.candidate_VU[v], z_BZU[b, z])


def test_fewer_vectors_than_codes_leave_the_rest_without_candidate():
    z = np.ones((1, 2, U), np.float32)
    updates = vq.codebook_updates(
        z, np.zeros((1, 2), np.int32), np.ones(1, bool), np.full((1, 2), 0.5, np.float32), V
    )
    np.testing.assert_array_equal(updates.priority_V, [0.5, 0.5] + [-1] * (V - 2))
    state, restarts = vq.updated_codebook(
        vq.initial_codebook(jax.random.key(0), V, U), updates, decay=0.9, restart_below=0.1
    )
    assert restarts == 2
    assert np.isfinite(state["codebook"]).all()


def test_merging_parts_equals_the_whole(vectors):
    z, codebook, valid, priority = vectors
    whole = updates_of(*vectors)
    parts = [
        updates_of(z[rows], codebook, valid[rows], priority[rows])
        for rows in (slice(0, 2), slice(2, 3), slice(3, 6))
    ]
    merged = vq.merged_updates(vq.merged_updates(parts[0], parts[1]), parts[2])
    np.testing.assert_array_equal(merged.count_V, whole.count_V)
    np.testing.assert_array_equal(merged.priority_V, whole.priority_V)
    np.testing.assert_array_equal(merged.candidate_VU, whole.candidate_VU)
    np.testing.assert_allclose(merged.sum_VU, whole.sum_VU, atol=1e-6)


def test_the_first_batch_replaces_the_whole_codebook(vectors):
    z, _, valid, _ = vectors
    state, restarts = vq.updated_codebook(
        vq.initial_codebook(jax.random.key(0), V, U), updates_of(*vectors), decay=0.9, restart_below=0.1
    )
    rows = z[valid].reshape(-1, U)
    assert restarts == V
    for row in np.asarray(state["codebook"]):
        assert np.abs(rows - row).max(axis=1).min() < 1e-6


def test_a_code_moves_to_the_mean_of_its_vectors_and_a_dead_one_restarts():
    codebook = np.array([[0.0, 0.0], [10.0, 10.0], [99.0, 99.0]], np.float32)
    state = {"codebook": codebook, "count": np.full(3, 4.0), "sum": 4 * codebook, "seen": np.float32(5)}
    rng = np.random.default_rng(1)
    z = np.concatenate([rng.normal(1, 0.1, (4, 1, 2)), rng.normal(11, 0.1, (4, 1, 2))]).astype(np.float32)
    restarted = 0
    for _ in range(60):
        code, _ = vq.nearest_code(z, state["codebook"])
        updates = vq.codebook_updates(
            z, code, np.ones(8, bool), rng.uniform(size=(8, 1)).astype(np.float32), 3
        )
        state, restarts = vq.updated_codebook(state, updates, decay=0.9, restart_below=0.1)
        restarted += float(restarts)
    assert restarted >= 1
    assert np.abs(np.asarray(state["codebook"])).max() < 12


def test_cosine_rows_keep_length_one(vectors):
    z, _, valid, priority = vectors
    z = np.asarray(vq.unit_rows(z))
    state = vq.initial_codebook(jax.random.key(0), V, U)
    for _ in range(3):
        code, _ = vq.nearest_code(z, state["codebook"])
        updates = vq.codebook_updates(z, code, valid, priority, V)
        state, _ = vq.updated_codebook(state, updates, decay=0.9, restart_below=0.1, cosine=True)
    np.testing.assert_allclose(np.linalg.norm(state["codebook"], axis=1), 1, atol=1e-5)


def test_perplexity_counts_the_codes_in_even_use():
    assert vq.perplexity(jnp.array([5.0, 5.0, 0.0])) == pytest.approx(2, abs=1e-4)
    assert vq.perplexity(jnp.array([9.0, 0.0, 0.0])) == pytest.approx(1, abs=1e-4)


def test_codes_that_tell_their_place_alone_count_as_collapsed():
    code_BtZ = np.tile([[0, 3], [1, 4], [2, 5]], (5, 1, 1))
    valid_Bt = np.ones((5, 3), bool)
    valid_Bt[4, 1:] = valid_Bt[3, 2] = False

    def updates_of_codes(code_BtZ):
        z_BtZU = np.zeros((5, 3, 2, U), np.float32)
        return vq.codebook_updates(z_BtZU, code_BtZ, valid_Bt, np.zeros((5, 3, 2)), V)

    updates = updates_of_codes(code_BtZ)
    np.testing.assert_array_equal(updates.count_tZV.sum(-1), [[5, 5], [4, 4], [3, 3]])
    np.testing.assert_array_equal(updates.count_V, [5, 4, 3, 5, 4, 3, 0])
    assert vq.perplexity(updates.count_V) > 5.5
    total, count = vq.place_perplexity(updates.count_tZV)
    assert count == 24 and total / count == pytest.approx(1, abs=1e-5)
    code_BtZ[:2, 0] = 6
    total, count = vq.place_perplexity(updates_of_codes(code_BtZ).count_tZV)
    mixed = np.exp(-0.4 * np.log(0.4) - 0.6 * np.log(0.6))
    assert total / count == pytest.approx((10 * mixed + 14) / 24, abs=1e-5)


@pytest.mark.parametrize("cosine", [False, True])
def test_a_restart_takes_the_vectors_of_the_batch(vectors, cosine):
    z, codebook, valid, _ = vectors
    state = vq.initial_codebook(jax.random.key(0), V, U) | {"seen": np.float32(9)}
    new = vq.restarted_codebook(state, updates_of(*vectors), cosine=cosine)
    rows = z[valid].reshape(-1, U)
    rows = np.asarray(vq.unit_rows(rows)) if cosine else rows
    for row in np.asarray(new["codebook"]):
        assert np.abs(rows - row).max(axis=1).min() < 1e-6
    np.testing.assert_allclose(new["sum"], new["codebook"] * new["count"][:, None], rtol=1e-6)
    assert new["seen"] == 9 and new.keys() == state.keys()
