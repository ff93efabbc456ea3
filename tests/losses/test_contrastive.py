import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.losses import contrastive

B, T, Z, U = 6, 2, 3, 4
EPISODE_B = np.array([0, 0, 0, 1, 1, 2], np.int32)
DATASET_B = np.zeros(B, np.int32)
EVERY_Bt = np.ones((B, T), bool)


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def views():
    first = normal(0, B, T, Z, U)
    return first, first + 0.3 * normal(1, B, T, Z, U)


@jax.jit
def nce(first, second, negative_BBt, valid_Bt):
    return contrastive.info_nce(first, second, negative_BBt, valid_Bt, temperature=0.2)


@jax.jit
def gradient(first, second, negative_BBt, valid_Bt):
    total = lambda *views: nce(*views, negative_BBt, valid_Bt)[0].sum()  # noqa: E731
    return jax.grad(total, argnums=(0, 1))(first, second)


def negatives(valid_Bt=EVERY_Bt, moving_Bt=EVERY_Bt, dataset_B=DATASET_B, episode_B=EPISODE_B, **options):
    masks = (jnp.asarray(array) for array in (dataset_B, episode_B, valid_Bt, moving_Bt))
    return contrastive.negative_mask(*masks, **options)


def loop(first, second, valid_Bt, moving_Bt, other_episodes, temperature=0.2):
    loss_Bt, count_Bt = np.zeros((B, T)), np.zeros((B, T))
    for b, k in np.ndindex(B, T):
        if not valid_Bt[b, k]:
            continue
        near = [c for c in range(B) if other_episodes or EPISODE_B[c] == EPISODE_B[b]]
        others = [c for c in near if c != b and valid_Bt[c, k] and moving_Bt[c, k]]
        count_Bt[b, k] = len(others)
        for here, there in ((first, second), (second, first)):
            anchor = here[b, k].ravel() / np.linalg.norm(here[b, k])
            scores = [there[c, k].ravel() @ anchor / np.linalg.norm(there[c, k]) for c in [b, *others]]
            weights = np.exp(np.array(scores, np.float64) / temperature)
            loss_Bt[b, k] -= 0.5 * np.log(weights[0] / weights.sum())
    return loss_Bt, count_Bt


@pytest.mark.parametrize("other_episodes", [False, True])
def test_it_equals_a_loop(other_episodes):
    valid_Bt, moving_Bt = EVERY_Bt.copy(), EVERY_Bt.copy()
    valid_Bt[1, 1] = moving_Bt[0, 0] = moving_Bt[3, 1] = False
    mask = negatives(valid_Bt, moving_Bt, other_episodes=other_episodes)
    loss_Bt, count_Bt = nce(*views(), mask, valid_Bt)
    want_loss_Bt, want_count_Bt = loop(*views(), valid_Bt, moving_Bt, other_episodes)
    np.testing.assert_array_equal(count_Bt, want_count_Bt)
    np.testing.assert_allclose(loss_Bt, want_loss_Bt, rtol=1e-4, atol=1e-6)
    assert (np.asarray(loss_Bt)[want_count_Bt > 0] > 1e-3).all()


def test_the_order_of_the_batch_does_not_matter():
    order = np.random.default_rng(2).permutation(B)
    first, second = views()
    loss_Bt, count_Bt = nce(first, second, negatives(), EVERY_Bt)
    mixed = nce(first[order], second[order], negatives(episode_B=EPISODE_B[order]), EVERY_Bt)
    np.testing.assert_allclose(mixed[0], loss_Bt[order], rtol=1e-5)
    np.testing.assert_array_equal(mixed[1], count_Bt[order])


@pytest.mark.parametrize("garbage", [9.0, np.nan, np.inf])
def test_masked_transitions_enter_nothing(garbage):
    valid_Bt = EVERY_Bt.copy()
    valid_Bt[0, 1] = valid_Bt[4, 0] = False
    dirty = [np.where(valid_Bt[..., None, None], view, np.float32(garbage)) for view in views()]
    arguments = negatives(valid_Bt), valid_Bt
    for clean, other in zip(nce(*views(), *arguments), nce(*dirty, *arguments), strict=True):
        np.testing.assert_array_equal(clean, other)
        assert not np.any(np.asarray(clean)[~valid_Bt])
    for part in gradient(*dirty, *arguments):
        assert np.isfinite(part).all() and np.any(part)
        assert not np.any(np.asarray(part)[~valid_Bt])


def test_a_window_that_hardly_moves_is_an_anchor_but_no_negative():
    moving_Bt = EVERY_Bt.copy()
    moving_Bt[2] = False
    mask = np.asarray(negatives(moving_Bt=moving_Bt))
    assert not mask[:, 2].any()
    assert mask[2, :2].all()


def test_the_same_number_in_another_dataset_is_another_episode():
    mask = np.asarray(negatives(dataset_B=np.array([0, 0, 1, 0, 0, 0])))
    assert mask[0, 1].all() and not mask[0, 2].any() and not mask[2].any()


def cost(code_BtZU, seed=3):
    """Mean loss over chance of two noisy views of a code."""
    seen = [code_BtZU + 0.01 * normal(seed + view, B, T, Z, U) for view in range(2)]
    loss_Bt, count_Bt = nce(*seen, negatives(), EVERY_Bt)
    total, count = contrastive.contrastive_term(loss_Bt, count_Bt)
    chance, _ = contrastive.contrastive_term(jnp.log1p(count_Bt), count_Bt)
    assert count == 5 * T
    return float(total / chance)


def test_a_code_of_the_scene_alone_is_no_better_than_chance_and_one_of_the_motion_is():
    scene = normal(5, 3, T, Z, U)[EPISODE_B]
    motion = normal(6, B, T, Z, U)
    assert cost(scene) > 0.95
    assert cost(motion) < 0.2


def test_against_other_episodes_the_scene_alone_wins():
    scene = normal(5, B, T, Z, U)
    mask = negatives(episode_B=np.arange(B), other_episodes=True)
    loss_Bt, count_Bt = nce(scene, scene, mask, EVERY_Bt)
    assert (np.asarray(loss_Bt) < 0.2 * np.log1p(count_Bt)).all()


def test_without_any_negative_loss_and_gradient_are_zero():
    mask = negatives(episode_B=np.arange(B))
    loss_Bt, count_Bt = nce(*views(), mask, EVERY_Bt)
    assert not np.any(loss_Bt) and not np.any(count_Bt)
    assert not any(np.any(part) for part in gradient(*views(), mask, EVERY_Bt))
    assert contrastive.contrastive_term(loss_Bt, count_Bt) == (0, 0)


def test_equal_and_zero_vectors_have_a_finite_gradient():
    same = np.zeros((B, T, Z, U), np.float32)
    for view in (same, same + 1):
        assert all(np.isfinite(part).all() for part in gradient(view, view, negatives(), EVERY_Bt))


def test_half_precision_enters_a_float32_loss():
    halves = [view.astype(jnp.bfloat16) for view in views()]
    assert {out.dtype for out in nce(*halves, negatives(), EVERY_Bt)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=f"temperature.*{temperature}"):
        contrastive.info_nce(*views(), negatives(), EVERY_Bt, temperature)


def test_negatives_come_from_the_whole_batch_also_when_it_is_sharded():
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    first, second = normal(0, 8, T, Z, U), normal(1, 8, T, Z, U)
    every_Bt, zero_B = np.ones((8, T), bool), np.zeros(8, np.int32)
    mask = contrastive.negative_mask(zero_B, zero_B, jnp.asarray(every_Bt), jnp.asarray(every_Bt))
    single = nce(first, second, mask, every_Bt)
    sharded = nce(*(jax.device_put(array, rows) for array in (first, second, mask, every_Bt)))
    assert (single[1] == 7).all()
    np.testing.assert_allclose(sharded[0], single[0], rtol=1e-5)
    np.testing.assert_array_equal(sharded[1], single[1])
