import json

import numpy as np
import pytest

from farsighted_jax.core import normalization as norm

MODES = norm.MODES


def rows(seed=0, count=500, width=5):
    rng = np.random.default_rng(seed)
    return rng.normal(rng.uniform(-3, 3, width), rng.uniform(0.01, 20, width), (count, width))


def test_statistics_against_numpy():
    x_BM = rows()
    found = norm.array_statistics(x_BM)
    for name, expected in [
        ("mean", np.mean(x_BM, axis=0)),
        ("std", np.std(x_BM, axis=0)),
        ("q01", np.percentile(x_BM, 1, axis=0)),
        ("q99", np.percentile(x_BM, 99, axis=0)),
        ("min", x_BM.min(axis=0)),
        ("max", x_BM.max(axis=0)),
    ]:
        np.testing.assert_allclose(getattr(found, name), expected, rtol=1e-12)
        assert getattr(found, name).dtype == np.float64
    assert found.count == 500


def test_statistics_do_not_depend_on_the_order_of_rows():
    x_BM = rows()
    first, second = norm.array_statistics(x_BM), norm.array_statistics(x_BM[::-1])
    for name in ("mean", "std", "q01", "q99", "min", "max"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-12)


def test_statistics_of_large_float32_values_keep_their_precision():
    x_BM = (1e4 + np.random.default_rng(0).normal(size=(10_000, 1))).astype(np.float32)
    assert norm.array_statistics(x_BM).std[0] == pytest.approx(1.0, abs=0.03)


def test_statistics_survive_json_exactly():
    statistics = norm.array_statistics(rows())
    again = norm.ArrayStatistics.from_dict(json.loads(json.dumps(statistics.to_dict())))
    for name in ("mean", "std", "q01", "q99", "min", "max"):
        np.testing.assert_array_equal(getattr(again, name), getattr(statistics, name))
    assert again.count == statistics.count and type(again.count) is int


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_no_number_is_named(bad):
    x_BM = rows()
    x_BM[17, 3] = bad
    with pytest.raises(norm.NormalizationError, match="row 17, dimension 3"):
        norm.array_statistics(x_BM)


@pytest.mark.parametrize("shape", [(0, 5), (5,), (2, 3, 4)])
def test_a_wrong_shape_is_named(shape):
    with pytest.raises(norm.NormalizationError, match=str(shape[0])):
        norm.array_statistics(np.zeros(shape))


@pytest.mark.parametrize("keep", [None, (False, False, True, False, True)])
@pytest.mark.parametrize("mode", MODES)
def test_denormalize_inverts_normalize(mode, keep):
    x_BM = rows().astype(np.float32)
    statistics = norm.array_statistics(x_BM)
    # Values far outside the quantiles too: nothing is clipped.
    wide = np.concatenate([x_BM, 50 * x_BM])
    normalized = norm.normalize(wide, statistics, mode, keep)
    back = norm.denormalize(normalized, statistics, mode, keep)
    assert normalized.dtype == back.dtype == np.float32
    tolerance = 4e-7 * (np.abs(wide) + np.abs(statistics.mean) + statistics.std)
    assert (np.abs(back - wide) <= tolerance).all()


def test_quantiles_map_to_plus_and_minus_one():
    statistics = norm.array_statistics(rows())
    np.testing.assert_allclose(norm.normalize(statistics.q01, statistics), -1, rtol=1e-6)
    np.testing.assert_allclose(norm.normalize(statistics.q99, statistics), 1, rtol=1e-6)


def test_mean_std_gives_mean_zero_and_deviation_one():
    x_BM = rows()
    normalized = norm.normalize(x_BM, norm.array_statistics(x_BM), "mean_std")
    np.testing.assert_allclose(normalized.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(normalized.std(0), 1, rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_a_kept_dimension_is_left_alone(mode):
    x_BM = rows().astype(np.float32)
    keep = (False, True, False, False, True)
    normalized = norm.normalize(x_BM, norm.array_statistics(x_BM), mode, keep)
    np.testing.assert_array_equal(normalized[:, [1, 4]], x_BM[:, [1, 4]])


def test_mode_none_changes_nothing():
    x_BM = rows().astype(np.float32)
    np.testing.assert_array_equal(norm.normalize(x_BM, norm.array_statistics(x_BM), "none"), x_BM)


@pytest.mark.parametrize("mode", ["q01_q99", "mean_std"])
@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e6])
def test_a_constant_dimension_becomes_zero_and_comes_back(mode, constant):
    x_BM = rows().astype(np.float32)
    x_BM[:, 2] = constant
    statistics = norm.array_statistics(x_BM)
    normalized = norm.normalize(x_BM, statistics, mode)
    assert np.isfinite(normalized).all()
    np.testing.assert_allclose(normalized[:, 2], 0, atol=1e-5)
    np.testing.assert_allclose(norm.denormalize(normalized, statistics, mode)[:, 2], x_BM[:, 2], rtol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_leading_axes_are_free(mode):
    x_BM = rows(count=24)
    statistics = norm.array_statistics(x_BM)
    whole = norm.normalize(x_BM.reshape(2, 3, 4, 5), statistics, mode)
    np.testing.assert_array_equal(whole.reshape(24, 5), norm.normalize(x_BM, statistics, mode))


def test_an_unknown_mode_is_named():
    statistics = norm.array_statistics(rows())
    for function in (norm.normalize, norm.denormalize):
        with pytest.raises(norm.NormalizationError, match="'minmax'"):
            function(rows(), statistics, "minmax")


@pytest.mark.parametrize("width", [1, 4, 6])
def test_an_action_of_another_width_is_refused(width):
    statistics = norm.array_statistics(rows())
    for function in (norm.normalize, norm.denormalize):
        with pytest.raises(norm.NormalizationError, match=rf"5 dimensions .* shape \(3, {width}\)"):
            function(np.zeros((3, width)), statistics)


def test_keep_flags_of_another_number_are_refused():
    statistics = norm.array_statistics(rows())
    with pytest.raises(norm.NormalizationError, match="1 keep flags"):
        norm.normalize(rows(), statistics, keep=(True,))


def test_depth_round_trip():
    depth_BHW = np.random.default_rng(0).uniform(0.05, 9, (2, 4, 6)).astype(np.float32)
    normalized = norm.normalize_depth(depth_BHW, np.ones_like(depth_BHW, bool), 0.3, 0.7)
    assert normalized.dtype == np.float32
    np.testing.assert_allclose(norm.denormalize_depth(normalized, 0.3, 0.7), depth_BHW, rtol=1e-6)


@pytest.mark.parametrize("hole", [0.0, -1.0, np.nan, np.inf])
def test_a_hole_in_the_depth_becomes_zero_without_a_warning(hole):
    depth_HW = np.full((3, 4), 2.0, np.float32)
    valid_HW = np.ones((3, 4), bool)
    depth_HW[1, 2], valid_HW[1, 2] = hole, False
    with np.errstate(all="raise"):
        normalized = norm.normalize_depth(depth_HW, valid_HW, 0.3, 0.7)
    assert normalized[1, 2] == 0
    np.testing.assert_allclose(normalized[valid_HW], (np.log(2.0) - 0.3) / 0.7, rtol=1e-6)


def test_depth_constants_may_differ_by_sample():
    depth_BHW = np.random.default_rng(0).uniform(0.5, 3, (2, 3, 4))
    center_B, scale_B = np.array([0.1, 0.5]), np.array([0.3, 0.9])
    normalized = np.stack(
        [norm.normalize_depth(d, d > 0, c, s) for d, c, s in zip(depth_BHW, center_B, scale_B, strict=True)]
    )
    back = norm.denormalize_depth(normalized, center_B[:, None, None], scale_B[:, None, None])
    np.testing.assert_allclose(back, depth_BHW, rtol=1e-6)
