"""A frozen LAM inside another model: the codes of `LatentActions`, of the clip before augmentation."""

import jax
import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED
from farsighted_jax.lam.frozen import LAM, FrozenLam
from farsighted_jax.lam.inference import LatentActions


@pytest.fixture(scope="module")
def frozen(trained):
    task, params, state = trained
    lam = FrozenLam(task, offsets_s=(0.2, 0.4, 0.6), resolution=16)
    return lam, {PRETRAINED: lam.weights_of(params, state)}


@pytest.fixture(scope="module")
def codes(frozen):
    return jax.jit(frozen[0].codes)


def test_codes_in_the_step_are_those_of_the_labels(trained, frozen, codes, batch):
    expected = np.asarray(LatentActions(*trained).encode(batch)["code"])
    np.testing.assert_array_equal(codes(frozen[1], batch), expected)
    assert len(np.unique(expected)) > 1


def test_they_are_of_the_clip_before_augmentation(frozen, codes, batch):
    changed = {**batch, "plain_rgb": batch["rgb"], "rgb": 255 - batch["rgb"]}
    np.testing.assert_array_equal(jax.jit(frozen[0].codes)(frozen[1], changed), codes(frozen[1], batch))


def test_only_what_is_needed_is_kept_and_its_shapes_are_known(trained, frozen):
    lam, params = frozen
    kept = params[PRETRAINED]
    assert not tree.structure_difference(lam.shapes(), kept)
    assert "decoder" in trained[1] and "decoder" not in kept[LAM]["params"]
    assert lam.codebook_size == 7 and lam.num_slots == 3 and lam.token_width == 8
    assert lam.data_settings() == {"offsets_s": (0.2, 0.4, 0.6), "dataset_offsets_s": (), "resolution": 16}


def test_frame_tokens_have_no_gradient(frozen, batch):
    lam, params = frozen
    rgb = batch["rgb"][:, 0].astype(np.float32) / 255

    def total(params):
        tokens_BNE = lam.frame_tokens(params, rgb)
        return tokens_BNE.sum(), tokens_BNE

    (_, tokens), gradient = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    assert tokens.shape == (6, 12, 8) and np.std(tokens) > 0
    assert all((leaf == 0).all() for leaf in jax.tree.leaves(gradient))
