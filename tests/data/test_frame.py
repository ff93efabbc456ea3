import json

import cv2
import numpy as np
import pytest

from data_pipelines.frame import (
    Augmentation,
    FrameError,
    Preprocessing,
    decode_rgb,
    draw_augmentation,
    prepare_depth,
    prepare_rgb,
    settled_rgb,
)
from farsighted_jax.core.spec import CameraSpec

CAMERA = CameraSpec("primary", rgb_key="image", depth_key="depth", depth_unit_m=0.001, depth_max_m=4.0)


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def test_decoding_gives_rgb_order():
    image = np.zeros((5, 7, 3), np.uint8)
    image[..., 0] = 200
    encoded = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(decode_rgb(encoded), image)


@pytest.mark.parametrize("encoded", [b"", b"no image", b"\xff\xd8\xff\xe0broken"])
def test_undecodable_images_raise(encoded):
    with pytest.raises(FrameError, match="missing|cannot decode"):
        decode_rgb(encoded)


def test_equal_size_changes_nothing():
    image = noise(9, 9, 3)
    np.testing.assert_array_equal(prepare_rgb(image, Preprocessing(9)), image)


def test_shrinking_averages_whole_areas():
    image = noise(12, 12, 3)
    expected = image.reshape(4, 3, 4, 3, 3).mean((1, 3))
    np.testing.assert_allclose(prepare_rgb(image, Preprocessing(4)), expected, atol=0.51)


def test_enlarging_stays_within_the_range_of_neighbours():
    image = np.repeat(np.array([[50] * 4 + [200] * 4], np.uint8)[:, :, None], 3, 2).repeat(8, 0)
    large = prepare_rgb(image, Preprocessing(23))
    assert large.shape == (23, 23, 3) and large.min() == 50 and large.max() == 200


def test_rotation_by_180_degrees():
    image = noise(8, 8, 3)
    np.testing.assert_array_equal(prepare_rgb(image, Preprocessing(8), rotate_180=True), image[::-1, ::-1])


def test_result_is_written_into_the_given_array():
    clip = np.zeros((2, 6, 6, 3), np.uint8)
    for augmentation in (Augmentation(), Augmentation((1, -2)), Augmentation((0, 1), np.eye(3, 4))):
        image = noise(10, 8, 3)
        clip[:] = 0
        result = prepare_rgb(image, Preprocessing(6), augmentation=augmentation, out=clip[1])
        np.testing.assert_array_equal(
            clip[1], prepare_rgb(image, Preprocessing(6), augmentation=augmentation)
        )
        assert np.shares_memory(result, clip) and not clip[0].any()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (0, 4, 3)])
def test_wrong_shapes_raise(shape):
    with pytest.raises(FrameError, match="uint8\\[H, W, 3\\]"):
        prepare_rgb(np.zeros(shape, np.uint8), Preprocessing(4))


def test_depth_takes_the_nearest_value_and_masks_holes():
    depth = np.array([[0, 1000], [np.nan, 5000]], np.float32)
    metres, valid = prepare_depth(depth, CAMERA, Preprocessing(4))
    np.testing.assert_array_equal(valid[::2, ::2], [[False, True], [False, False]])
    np.testing.assert_array_equal(metres, np.where(valid, np.float32(1.0), 0))
    assert valid.sum() == 4


def test_depth_values_are_never_mixed():
    depth = np.random.default_rng(0).choice([500.0, 3000.0], size=(11, 13)).astype(np.float32)
    for size in (4, 7, 29):
        metres, valid = prepare_depth(depth, CAMERA, Preprocessing(size))
        assert valid.all() and set(np.unique(metres.round(3))) <= {np.float32(0.5), np.float32(3.0)}


def test_nearest_depth_takes_the_pixel_at_the_centre():
    depth = np.arange(1, 82, dtype=np.float32).reshape(9, 9)
    metres, _ = prepare_depth(depth, CAMERA, Preprocessing(3))
    np.testing.assert_allclose(metres / 0.001, depth[1::3, 1::3], rtol=1e-6)


@pytest.mark.parametrize("shift", [(0, 0), (2, -1), (-3, 0), (0, 3)])
def test_shift_moves_rgb_and_depth_alike(shift):
    image = noise(8, 8, 3)
    depth = image[..., 0].astype(np.float32) + 1
    augmentation = Augmentation(shift)
    rgb = prepare_rgb(image, Preprocessing(8), augmentation=augmentation)
    metres, valid = prepare_depth(depth, CAMERA, Preprocessing(8), augmentation=augmentation)
    np.testing.assert_allclose((metres * 1000)[valid], rgb[..., 0][valid] + 1.0, rtol=1e-5)
    down, right = shift
    inside = np.zeros((8, 8), bool)
    for y in range(8):
        for x in range(8):
            inside[y, x] = 0 <= y - down < 8 and 0 <= x - right < 8
            source = image[np.clip(y - down, 0, 7), np.clip(x - right, 0, 7)]
            np.testing.assert_array_equal(rgb[y, x], source)
    np.testing.assert_array_equal(valid, inside)


def test_draws_follow_the_generator_and_stay_in_range():
    preprocessing = Preprocessing(20, 0.1, 0.3, 0.2, 0.1)
    draws = [draw_augmentation(preprocessing, np.random.default_rng(i)) for i in range(50)]
    again = draw_augmentation(preprocessing, np.random.default_rng(3))
    assert again.shift == draws[3].shift and np.array_equal(again.color, draws[3].color)
    assert {s for draw in draws for s in draw.shift} == set(range(-2, 3))
    plain = draw_augmentation(Preprocessing(20, 0.1), np.random.default_rng(3))
    assert plain.color is None and plain.shift == draws[3].shift


def test_jitter_changes_what_it_says():
    grey = np.full((4, 4, 3), 100, np.uint8)
    draws = [draw_augmentation(Preprocessing(4, saturation=0.5), np.random.default_rng(i)) for i in range(5)]
    for draw in draws:
        np.testing.assert_allclose(prepare_rgb(grey, Preprocessing(4), augmentation=draw), grey, atol=1)
    draw = draw_augmentation(Preprocessing(4, brightness=0.5), np.random.default_rng(1))
    bright = prepare_rgb(grey, Preprocessing(4), augmentation=draw)
    assert np.ptp(bright) == 0 and abs(int(bright[0, 0, 0]) - 100 * draw.color[0].sum()) < 1


def test_settings_are_checked_and_survive_json():
    preprocessing = Preprocessing(224, 0.1, 0.2, 0.3, 0.4)
    assert Preprocessing(**json.loads(json.dumps(preprocessing.to_dict()))) == preprocessing
    with pytest.raises(ValueError, match="shift_fraction"):
        Preprocessing(224, 1.5)
    with pytest.raises(ValueError, match="resolution"):
        Preprocessing(0)


@pytest.mark.parametrize("shape", [(9, 7), (24, 24), (40, 31), (60, 10), (10, 60)])
@pytest.mark.parametrize("rotate_180", [False, True])
def test_a_settled_image_gives_what_the_image_itself_gives(shape, rotate_180):
    preprocessing = Preprocessing(24, 0.2, 0.3, 0.3, 0.3)
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    settled = settled_rgb(image, preprocessing, rotate_180)
    assert settled.size <= 24 * 24 * 3 and settled.flags.c_contiguous
    for seed in range(4):
        draw = draw_augmentation(preprocessing, np.random.default_rng(seed))
        for augmentation in (
            draw,
            Augmentation(draw.shift),
            Augmentation((0, 0), draw.color),
            Augmentation(),
        ):
            expected = prepare_rgb(image, preprocessing, rotate_180=rotate_180, augmentation=augmentation)
            found = prepare_rgb(settled, preprocessing, augmentation=augmentation)
            np.testing.assert_array_equal(found, expected)
