"""Padding and missing cameras: what stands there changes no bit, and masking equals leaving out."""

import jax
import numpy as np
import pytest
from policy_cases import LAYOUT, backbone, normal, random_codes, random_context, smaller, split_context

from farsighted_jax.policy.context import flat_context
from farsighted_jax.policy.errors import PolicyError

LANGUAGE_VALID = np.array([[True, True, False], [True, False, False]])
FRAME_VALID = np.array([[[True, False], [True, False]], [[True, True], [False, True]]])
PROPRIO_VALID = np.array([[True], [False]])
CODE_VALID = np.array([[True, True, True, True], [True, True, False, False]])


def masked_context(garbage=None):
    context = random_context(
        language_valid=LANGUAGE_VALID, frame_valid=FRAME_VALID, proprio_valid=PROPRIO_VALID
    )
    if garbage is None:
        return context
    return context._replace(
        language=np.where(LANGUAGE_VALID[..., None], context.language, garbage),
        frames=np.where(FRAME_VALID[..., None, None], context.frames, garbage),
        proprio=np.where(PROPRIO_VALID[..., None], context.proprio, garbage),
    )


@pytest.mark.parametrize("garbage", [0.0, 1e9, np.nan, np.inf])
def test_garbage_in_what_is_missing_changes_no_bit(run, garbage):
    codes = random_codes()
    bad_codes = np.where(CODE_VALID[..., None], codes, np.float32(garbage))
    before = run(masked_context(), codes, CODE_VALID)
    after = run(masked_context(np.float32(garbage)), bad_codes, CODE_VALID)
    for group in before:
        np.testing.assert_array_equal(before[group], after[group], err_msg=group)
        assert np.isfinite(before[group]).all()


def test_what_is_missing_has_no_gradient(gradients):
    parts, valid = split_context(masked_context())
    weights = dict.fromkeys(LAYOUT.groups, 1.0)
    _, by_part, by_code = gradients(parts, random_codes(), weights, valid, CODE_VALID, np.zeros(2, bool))
    for name, here in (("language", LANGUAGE_VALID), ("frames", FRAME_VALID), ("proprio", PROPRIO_VALID)):
        assert not np.any(by_part[name][~here]), name
        assert np.abs(by_part[name][here]).max(axis=-1).min() > 1e-5, name
    assert not np.any(by_code[~CODE_VALID]) and np.abs(by_code[CODE_VALID]).max(axis=-1).min() > 1e-5


def test_padding_and_a_missing_camera_equal_a_policy_without_them(run, params):
    """That they are masked keys, not merely zeroed ones."""
    language_valid = np.tile([True, True, False], (2, 1))
    frame_valid = np.tile([True, False], (2, 2, 1))
    context = random_context(language_valid=language_valid, frame_valid=frame_valid)
    found = run(context, random_codes())
    positions = params["params"]["positions"]
    positions = positions | {
        "language_embedding": positions["language_embedding"][:2],
        "view_embedding": positions["view_embedding"][:1],
    }
    lesser = {"params": params["params"] | {"positions": positions}}
    plain = random_context()._replace(language=context.language[:, :2], frames=context.frames[:, :, :1])
    wanted = jax.jit(backbone(smaller(language=2, views=1)).apply)(lesser, plain, random_codes())
    for group in ("vision", "plan", "action"):
        np.testing.assert_allclose(found[group], wanted[group], atol=1e-5, err_msg=group)
    np.testing.assert_allclose(found["context"][:, :2], wanted["context"][:, :2], atol=1e-5)


def test_a_sample_without_any_context_is_finite(run):
    nothing = random_context(
        language_valid=np.zeros((2, 3), bool),
        frame_valid=np.zeros((2, 2, 2), bool),
        proprio_valid=np.zeros((2, 1), bool),
    )
    assert all(np.isfinite(part).all() for part in run(nothing, random_codes()).values())


def test_samples_do_not_mix(run):
    context, codes, hidden = masked_context(), random_codes(), np.array([True, False])
    swapped = jax.tree.map(lambda part: part[::-1], context)
    before = run(context, codes, CODE_VALID, hidden)
    after = run(swapped, codes[::-1], CODE_VALID[::-1], hidden[::-1])
    for group in before:
        np.testing.assert_allclose(before[group], after[group][::-1], atol=1e-6, err_msg=group)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"language": normal(0, 2, 4, 16)}, r"context.language: expected \[B, 3, 16\], found \[2, 4, 16\]"),
        ({"frames": None}, r"context.frames: expected \[B, 2, 2, 2, 16\], found None"),
        (
            {"frame_valid": np.ones((2, 2), bool)},
            r"frame_valid: expected bool\[2, 2, 2\], found bool\[2, 2\]",
        ),
        ({"language_valid": np.ones((2, 3))}, r"language_valid: expected bool\[2, 3\], found float64"),
        ({"proprio": normal(0, 3, 1, 16)}, "differ in batch size"),
    ],
)
def test_a_wrong_shape_is_named(fields, message):
    with pytest.raises(PolicyError, match=message):
        flat_context(random_context(**fields), LAYOUT, 16)
