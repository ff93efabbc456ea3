import jax
import jax.numpy as jnp
import numpy as np

from farsighted_jax.layers.attention import MultiHeadAttention, attention, causal_attention_over_time
from farsighted_jax.layers.space_time import SpaceTimeTransformer


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def softmax_loop(q_QK, k_SK, v_SK, allowed_QS):
    out = np.zeros((len(q_QK), v_SK.shape[1]))
    for i, query in enumerate(q_QK.astype(np.float64)):
        logits = np.where(allowed_QS[i], k_SK @ query / np.sqrt(len(query)), -np.inf)
        weight = np.exp(logits - logits.max())
        out[i] = (weight / weight.sum()) @ v_SK
    return out


def test_attention_equals_a_loop_and_honours_the_mask():
    B, Q, S, A, K = 2, 3, 4, 2, 6
    q, k, v = normal(0, B, Q, A, K), normal(1, B, S, A, K), normal(2, B, S, A, K)
    mask = np.ones((B, 1, Q, S), bool)
    mask[0, 0, :, 3] = False
    mask[1, 0, 2, :2] = False
    out = attention(q, k, v, mask)
    for b in range(B):
        for a in range(A):
            want = softmax_loop(q[b, :, a], k[b, :, a], v[b, :, a], mask[b, 0])
            np.testing.assert_allclose(out[b, :, a], want, atol=1e-5)


def test_attention_over_time_equals_a_loop():
    B, T, S, A, K = 2, 4, 3, 2, 5
    q, k, v = normal(0, B, T, S, A, K), normal(1, B, T, S, A, K), normal(2, B, T, S, A, K)
    out = causal_attention_over_time(q, k, v)
    for b, s, a in np.ndindex(B, S, A):
        want = softmax_loop(q[b, :, s, a], k[b, :, s, a], v[b, :, s, a], np.tril(np.ones((T, T), bool)))
        np.testing.assert_allclose(out[b, :, s, a], want, atol=1e-5)


def test_spatial_attention_does_not_mix_frames():
    x = normal(0, 2, 3, 4, 8)
    module = MultiHeadAttention(num_heads=2)
    params = module.init(jax.random.key(0), x)
    changed = x.copy()
    changed[:, 1] += 1
    before, after = module.apply(params, x), module.apply(params, changed)
    np.testing.assert_array_equal(before[:, [0, 2]], after[:, [0, 2]])
    assert np.abs(before[:, 1] - after[:, 1]).max() > 1e-4


def test_the_stack_is_causal_by_gradient():
    x = normal(0, 1, 4, 5, 8)
    module = SpaceTimeTransformer(depth=2, num_heads=2)
    params = module.init(jax.random.key(0), x)
    jacobian = jax.jacobian(lambda x: module.apply(params, x).sum(axis=(0, 2, 3)))(x)
    reach = np.abs(np.asarray(jacobian)).sum(axis=(1, 3, 4))
    assert (reach[np.tril_indices(4)] > 1e-4).all()
    assert (reach[np.triu_indices(4, 1)] == 0).all()


def test_unrolling_changes_nothing_but_the_program():
    x = normal(0, 1, 3, 5, 8)
    params = SpaceTimeTransformer(depth=3, num_heads=2).init(jax.random.key(0), x)
    outputs = [SpaceTimeTransformer(3, 2, unroll=n).apply(params, x) for n in (1, 3, 99)]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-5)
    np.testing.assert_array_equal(outputs[1], outputs[2])


def test_layers_are_stacked_and_differently_initialised():
    params = SpaceTimeTransformer(depth=3, num_heads=2).init(jax.random.key(0), normal(0, 1, 2, 3, 8))[
        "params"
    ]
    kernel = params["blocks"]["space"]["query"]["kernel"]
    assert kernel.shape == (3, 8, 8)
    assert jnp.abs(kernel[0] - kernel[1]).max() > 1e-3


def test_without_time_frames_stay_apart():
    x = normal(0, 1, 3, 5, 8)
    module = SpaceTimeTransformer(depth=2, num_heads=2, temporal=False)
    params = module.init(jax.random.key(0), x)
    gradient = jax.grad(lambda x: module.apply(params, x)[:, 1].sum())(x)
    assert not np.any(gradient[:, [0, 2]])
    assert np.any(gradient[:, 1])
