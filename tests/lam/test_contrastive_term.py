"""The contrastive term: its second view, its negatives, and what must not reach it."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from lam_cases import B, T, gradient_and_aux, jitted, lam_task, random_batch

from farsighted_jax.core.batch import float_rgb
from farsighted_jax.lam import contrastive
from farsighted_jax.lam.contrastive import Contrastive
from farsighted_jax.lam.objective import LossWeights

SETTINGS = Contrastive(min_motion=0.01)
second_view = jax.jit(contrastive.second_view, static_argnums=3)
negatives = jax.jit(contrastive.negatives, static_argnums=0)
num_compared = jax.jit(contrastive.num_compared, static_argnums=0)


@pytest.fixture(scope="module")
def clips():
    """Rows 0..3 are windows of one episode, 4 and 5 of two others; row 2 does not move."""
    batch = random_batch() | {
        "dataset": np.zeros(B, np.int32), "episode": np.array([7, 7, 7, 7, 8, 9], np.int32)
    }  # fmt: skip
    batch["rgb"][2] = batch["rgb"][2, :1]
    return batch


def test_a_second_view_is_one_light_a_clip(clips):
    rgb = float_rgb(clips["rgb"])
    view = second_view(rgb, jax.random.key(0), clips["row"], 0.3)
    assert view.shape == rgb.shape and 0 <= view.min() and view.max() <= 1
    assert np.abs(view - rgb).mean(axis=(1, 2, 3, 4)).min() > 0.01
    np.testing.assert_array_equal(view[2], np.broadcast_to(view[2, :1], view[2].shape))
    moved = second_view(rgb[::-1], jax.random.key(0), clips["row"][::-1], 0.3)
    np.testing.assert_allclose(view, moved[::-1], atol=1e-6)
    np.testing.assert_allclose(second_view(rgb, jax.random.key(0), clips["row"], 0.0), rgb, atol=1e-6)


def test_negatives_are_moving_windows_of_the_same_episode(clips):
    found_BBt = np.asarray(negatives(SETTINGS, clips, float_rgb(clips["rgb"])))
    for b in range(B):
        for c in range(B):
            for k in range(T - 1):
                both = clips["frame_valid"][b, k + 1] and clips["frame_valid"][c, k + 1]
                want = b != c and max(b, c) < 4 and c != 2 and both
                assert found_BBt[b, c, k] == want
    # Row 2 is no negative but has some; the clips of other episodes have none.
    assert num_compared(SETTINGS, clips, float_rgb(clips["rgb"])) == 4 * 3 - 1
    wide = dataclasses.replace(SETTINGS, other_episodes=True)
    assert num_compared(wide, clips, float_rgb(clips["rgb"])) == B * 3 - 3


def term(encode, clips):
    rgb = float_rgb(clips["rgb"])
    count = num_compared(SETTINGS, clips, rgb)

    @jax.jit
    def loss(clips, rgb, count):
        return contrastive.loss(SETTINGS, encode, clips, rgb, encode(rgb), jax.random.key(3), count)

    return float(loss(clips, rgb, count))


def test_a_code_of_motion_beats_one_of_the_scene(clips):
    scene = np.random.default_rng(1).normal(size=(B, 1, 2, 4))

    def constant(rgb):
        return jnp.broadcast_to(jnp.ones((1, 1, 2, 4)), (B, T - 1, 2, 4))

    def own(rgb):
        return jnp.asarray(scene) * jnp.arange(1, T)[:, None, None]

    assert term(own, clips) < term(constant, clips)
    # All alike: chance among the negatives that each transition has.
    count_Bt = np.asarray(negatives(SETTINGS, clips, float_rgb(clips["rgb"]))).sum(1)
    assert term(constant, clips) == pytest.approx(np.log(1 + count_Bt[count_Bt > 0]).mean(), rel=1e-4)


@pytest.mark.slow
def test_the_term_is_in_the_loss_and_missing_frames_are_not_in_it(clips):
    task = lam_task("pixels")
    task = dataclasses.replace(task, weights=LossWeights(contrastive=0.5), contrastive=SETTINGS)
    params, state = jitted(task, "init")(jax.random.key(0), clips)
    garbage = dict(clips, rgb=clips["rgb"].copy())
    garbage["rgb"][~clips["frame_valid"]] = 255
    results = [gradient_and_aux(task, params, state, b) for b in (clips, garbage)]
    jax.tree.map(np.testing.assert_array_equal, *results)
    (loss, (metrics, _)), _ = results[0]
    terms = {name: float(total / count) for name, (total, count) in metrics.items()}
    want = terms["rgb"] + 0.1 * terms["depth"] + 0.25 * terms["commit"] + 0.5 * terms["contrastive"]
    assert float(loss) == pytest.approx(want, rel=1e-5) and terms["contrastive"] > 0.1
