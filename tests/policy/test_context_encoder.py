"""What embeds observations that come from frozen encoders; those trained along are tested with the policy."""

import jax
import numpy as np
import pytest
from policy_cases import LAYOUT, WIDTH, normal, smaller
from random_weights import random_variables
from whole_policy import FRAME_VALID, PROPRIO_VALID, TEXT_VALID, B

from farsighted_jax.core import tree
from farsighted_jax.policy.context_encoder import ContextEncoder
from farsighted_jax.policy.errors import PolicyError
from farsighted_jax.policy.observation import Observation

ENCODER = ContextEncoder(smaller(proprio=2), WIDTH, patch=4, own_frames=False)
VALID = {"frame_valid_BRP": FRAME_VALID, "text_valid_BL": TEXT_VALID, "proprio_valid_BI": PROPRIO_VALID}
GIVEN = {"tokens_BRPNE": "frame_valid_BRP", "text_BLE": "text_valid_BL", "proprio_BI": "proprio_valid_BI"}


def observation(garbage=None):
    """Of frames with 6 and text with 5 channels; with `garbage` wherever nothing is valid."""
    arrays = {
        "tokens_BRPNE": normal(0, B, LAYOUT.frames, LAYOUT.views, 2, 6),
        "text_BLE": normal(1, B, LAYOUT.language, 5),
        "proprio_BI": normal(2, B, 3),
    }
    if garbage is not None:
        for name, x in arrays.items():
            valid = VALID[GIVEN[name]]
            spread = valid.reshape(*valid.shape, *(1,) * (x.ndim - valid.ndim))
            arrays[name] = np.where(spread, x, np.float32(garbage))
    return Observation(**arrays, **VALID)


@pytest.fixture(scope="module")
def encoded():
    """Observation -> (context, gradients of all its tokens by the parameters)."""
    variables = random_variables(ENCODER, observation())

    @jax.jit
    def of(seen):
        def total(params):
            context = ENCODER.apply({"params": params}, seen)
            parts = context.language, context.frames, context.proprio
            return sum((part * normal(9 + i, *part.shape)).sum() for i, part in enumerate(parts)), context

        gradient, context = jax.grad(total, has_aux=True)(variables["params"])
        return context, gradient

    return of


def test_garbage_in_what_is_missing_changes_no_bit_of_tokens_and_gradients(encoded):
    clean, spoiled = encoded(observation()), encoded(observation(np.nan))
    jax.tree.map(np.testing.assert_array_equal, clean, spoiled)
    assert all(np.any(leaf) for leaf in tree.flat_paths(clean[1]).values())


def test_every_part_has_the_tokens_and_the_validity_of_the_layout(encoded):
    context, _ = encoded(observation())
    assert context.language.shape == (B, LAYOUT.language, WIDTH)
    assert context.frames.shape == (B, LAYOUT.frames, LAYOUT.views, 2, WIDTH)
    assert context.proprio.shape == (B, 2, WIDTH)
    assert np.abs(context.proprio[:, 0] - context.proprio[:, 1]).min(axis=0).max() > 0.1
    np.testing.assert_array_equal(context.language_valid, TEXT_VALID)
    np.testing.assert_array_equal(context.frame_valid, FRAME_VALID)
    np.testing.assert_array_equal(context.proprio_valid, np.ones((B, 2), bool))


def test_proprioception_is_missing_where_no_dimension_is_valid(encoded):
    some = np.array([[False, False, False], [False, True, False]])
    context, _ = encoded(observation()._replace(proprio_valid_BI=some))
    np.testing.assert_array_equal(context.proprio_valid, [[False, False], [True, True]])


def test_without_masks_all_is_there_and_without_features_there_is_an_error():
    bare = observation()._replace(**dict.fromkeys(VALID))
    context = jax.eval_shape(lambda: ENCODER.init_with_output(jax.random.key(0), bare)[0])
    assert context.frame_valid.shape == FRAME_VALID.shape and context.frame_valid.dtype == bool
    for name in GIVEN:
        with pytest.raises(PolicyError, match=rf"the observation lacks \['{name}'\]"):
            jax.eval_shape(
                lambda name=name: ENCODER.init(jax.random.key(0), observation()._replace(**{name: None}))
            )
