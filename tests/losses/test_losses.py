import jax
import jax.numpy as jnp
import numpy as np
import pytest

from farsighted_jax.losses import depth, quantizer
from farsighted_jax.losses.masked import masked_sum, safe_ratio
from farsighted_jax.losses.reconstruction import squared_error


@pytest.fixture
def scene():
    rng = np.random.default_rng(0)
    shape = (2, 3, 5, 6)
    return {
        "predicted": rng.normal(size=(*shape, 1)).astype(np.float32),
        "target": rng.normal(size=(*shape, 1)).astype(np.float32),
        "valid": rng.uniform(size=(*shape, 1)) < 0.7,
        "rgb": rng.uniform(size=(*shape, 3)).astype(np.float32),
    }


def depth_loss(scene, **changes):
    scene = scene | changes
    along_x, along_y = depth.pair_masks(jnp.asarray(scene["valid"]))
    return depth.gradient_aware_log_loss(
        scene["predicted"], scene["target"], scene["valid"], scene["rgb"], along_x.sum(), along_y.sum()
    )


def test_depth_loss_equals_a_loop(scene):
    terms = {"x": [], "y": []}
    for b, t, y, x in np.ndindex(*scene["valid"].shape[:4]):
        for axis, (dy, dx) in {"x": (0, 1), "y": (1, 0)}.items():
            other = (b, t, y + dy, x + dx)
            inside = y + dy < 5 and x + dx < 6
            if inside and scene["valid"][b, t, y, x, 0] and scene["valid"][other][0]:
                edge = np.abs(scene["rgb"][b, t, y, x] - scene["rgb"][other]).mean()
                error = np.abs(scene["predicted"][b, t, y, x, 0] - scene["target"][b, t, y, x, 0])
                terms[axis].append(np.exp(-edge) * np.log(1 + error))
    assert depth_loss(scene) == pytest.approx(np.mean(terms["x"]) + np.mean(terms["y"]), rel=1e-5)


@pytest.mark.parametrize("garbage", [7.0, np.nan, np.inf])
def test_holes_have_no_influence_on_loss_or_gradient(scene, garbage):
    dirty = np.where(scene["valid"], scene["target"], np.float32(garbage))
    assert depth_loss(scene, target=dirty) == depth_loss(scene)
    gradient = jax.grad(lambda predicted: depth_loss(scene, predicted=predicted, target=dirty))(
        scene["predicted"]
    )
    assert np.isfinite(gradient).all()
    assert not np.any(gradient[~scene["valid"]])


def test_an_image_edge_weighs_the_depth_error_down(scene):
    flat = depth_loss(scene, rgb=np.zeros_like(scene["rgb"]))
    assert 0 < depth_loss(scene) < flat


def test_no_valid_depth_gives_zero(scene):
    assert depth_loss(scene, valid=np.zeros_like(scene["valid"])) == 0


def test_squared_error_is_a_mean_over_pixels_of_each_frame(scene):
    other = scene["rgb"] + 0.1 * np.arange(1, 4, dtype=np.float32)[None, :, None, None, None]
    np.testing.assert_allclose(squared_error(other, scene["rgb"]), [[0.01, 0.04, 0.09]] * 2, rtol=1e-4)


def test_masked_sum_ignores_nan_under_the_mask_also_in_the_gradient():
    value = jnp.array([1.0, jnp.nan, 3.0])
    valid = jnp.array([True, False, True])
    assert masked_sum(value, valid) == 4
    np.testing.assert_array_equal(jax.grad(lambda v: masked_sum(v, valid))(value), [1, 0, 1])


def test_nothing_counted_gives_zero():
    assert safe_ratio(jnp.float32(0), jnp.float32(0)) == 0


def test_quantizer_losses_move_the_right_side():
    encoded, code = jnp.ones((1, 2, 3, 4)), jnp.zeros((1, 2, 3, 4))
    for loss, moves_encoder in ((quantizer.commitment, True), (quantizer.codebook, False)):
        to_encoder, to_code = jax.grad(lambda e, c, loss=loss: loss(e, c).sum(), argnums=(0, 1))(
            encoded, code
        )
        assert bool(np.any(to_encoder)) is moves_encoder
        assert bool(np.any(to_code)) is not moves_encoder
        np.testing.assert_array_equal(loss(encoded, code), np.ones((1, 2)))


@pytest.fixture(scope="module")
def aligned_error():
    """predicted, target -> sum of squares after alignment, and its gradient for the prediction."""

    def error(predicted, target):
        return jnp.square(depth.aligned(predicted, target) - target).sum()

    return jax.jit(jax.value_and_grad(error))


def test_alignment_is_that_of_least_squares(scene):
    target = scene["target"]
    predicted = 3 * target + scene["predicted"] - 5
    found = depth.aligned(predicted, target)
    for place in np.ndindex(2, 3):
        line = np.polyfit(predicted[place].ravel(), target[place].ravel(), 1)
        np.testing.assert_allclose(found[place], np.polyval(line, predicted[place]), atol=1e-4)


def test_scale_and_shift_of_a_prediction_change_nothing(scene, aligned_error):
    target = scene["target"]
    predicted = target + scene["predicted"]
    error, gradient = aligned_error(predicted, target)
    again, smaller = aligned_error(20 * predicted + 3, target)
    assert float(again) == pytest.approx(float(error), rel=1e-4)
    np.testing.assert_allclose(20 * smaller, gradient, atol=1e-4)
    along_scale, along_shift = (np.sum(gradient * part) for part in (predicted, np.ones_like(predicted)))
    assert abs(along_scale) < 1e-3 and abs(along_shift) < 1e-3 < np.abs(gradient).max()


def test_near_and_far_are_not_turned_over_and_a_constant_prediction_learns(scene, aligned_error):
    target = scene["target"]
    right, wrong = (float(aligned_error(sign * target, target)[0]) for sign in (1, -1))
    spread = np.square(target - target.mean(axis=(2, 3, 4), keepdims=True)).sum()
    assert right < 1e-4 * spread and wrong > spread
    for start in (0.3 * scene["predicted"] - target, np.zeros_like(target)):
        _, gradient = aligned_error(start, target)
        assert np.isfinite(gradient).all()
        assert np.sum(gradient * target) < -1e-3, "a step down the gradient goes towards the target"
