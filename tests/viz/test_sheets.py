import cv2
import numpy as np
import pytest

from farsighted_jax.viz import tiles
from farsighted_jax.viz.depth import depth_colors, depth_sheet
from farsighted_jax.viz.frames import error_colors, prediction_sheet


def read(path):
    return cv2.imread(str(path))[..., ::-1]


def expected_size(rows, groups, footer):
    """Pixel size of a sheet by its layout: columns a group, rows and lines of footer."""
    width = tiles.MARGIN + tiles.LABEL_WIDTH + tiles.MARGIN + tiles.GROUP_GAP * (len(groups) - 1)
    width += sum(n * tiles.TILE_PX + (n - 1) * tiles.GAP for n in groups)
    height = tiles.MARGIN + 2 * tiles.LINE + 4 + rows * (tiles.TILE_PX + tiles.LINE + 8)
    return height + footer * tiles.LINE + tiles.MARGIN, width, 3


def test_prediction_sheet_has_its_size_and_shows_the_frames(tmp_path, squares, predictions):
    image = read(prediction_sheet(tmp_path / "new" / "frames.png", squares, predictions, rows=3))
    assert image.shape == expected_size(3, (1, 3, 3), footer=2)
    top, left = tiles.MARGIN + 2 * tiles.LINE + 4, tiles.MARGIN + tiles.LABEL_WIDTH
    first = image[top : top + 128, left : left + 128]
    np.testing.assert_array_equal(first, tiles.upscaled(squares["rgb"][0, 0]))
    left += 128 + tiles.GROUP_GAP
    np.testing.assert_array_equal(
        image[top : top + 128, left : left + 128], tiles.upscaled(squares["rgb"][0, 1])
    )


def test_missing_frames_are_hatched_whatever_stands_there(tmp_path, squares, predictions):
    squares["frame_valid"][1, 2:] = False
    before = read(prediction_sheet(tmp_path / "a.png", squares, predictions, rows=5))
    squares["rgb"][1, 2] = 255
    predictions["rgb"][1, 1] = np.nan
    after = read(prediction_sheet(tmp_path / "b.png", squares, predictions, rows=5))
    np.testing.assert_array_equal(before, after)
    pitch = tiles.TILE_PX + tiles.LINE + 8
    tile = after[tiles.MARGIN + 2 * tiles.LINE + 4 + pitch :][:128, -tiles.MARGIN - 128 : -tiles.MARGIN]
    assert {205, 225} <= set(np.unique(tile)) and tile.std() > 5


def test_padding_rows_are_never_shown_and_nothing_to_show_is_an_error(tmp_path, squares, predictions):
    squares["frame_valid"][3:] = False
    image = read(prediction_sheet(tmp_path / "a.png", squares, predictions, rows=8))
    assert image.shape == expected_size(3, (1, 3, 3), footer=2)
    squares["frame_valid"][:] = False
    with pytest.raises(ValueError, match="nothing to show"):
        prediction_sheet(tmp_path / "b.png", squares, predictions)


def test_depth_sheet_has_its_size_and_ignores_unmeasured_pixels(tmp_path, squares, predictions):
    before = read(depth_sheet(tmp_path / "a.png", squares, predictions, rows=4))
    assert before.shape == expected_size(4, (2, 3, 3), footer=3) and before.std() > 20
    squares["depth"][~squares["depth_valid"]] = 7.0
    np.testing.assert_array_equal(before, read(depth_sheet(tmp_path / "b.png", squares, predictions, rows=4)))
    seen = read(depth_sheet(tmp_path / "d.png", squares, predictions, rows=4, seen=True))
    heading = tiles.MARGIN + 2 * tiles.LINE + 4
    assert (seen[:heading] != before[:heading]).any()
    np.testing.assert_array_equal(seen[heading:], before[heading:])
    with pytest.raises(ValueError, match="'depth'"):
        depth_sheet(tmp_path / "c.png", {"rgb": squares["rgb"]}, predictions)


def test_depth_colors_order_near_to_far_and_holes_are_black():
    depth = np.array([[0.5, 1.0, 4.0, 2.0]])
    valid = np.array([[True, True, True, False]])
    colors = depth_colors(depth, valid, 0.5, 4.0).astype(int)
    np.testing.assert_array_equal(colors[0, 3], 0)
    assert colors[0, 0].argmax() == 0 and colors[0, 2].argmax() == 2
    assert (colors[0, :3].sum(axis=1) > 100).all()


def test_error_colors_get_brighter_with_the_error_and_saturate():
    colors = error_colors(np.array([[0.0, 0.3, 1.0, 5.0]])).astype(int).sum(axis=-1)[0]
    assert colors[0] < 20 < colors[1] < colors[2] == colors[3]


@pytest.mark.parametrize(("size", "expected"), [(16, 128), (64, 128), (48, 144), (224, 224)])
def test_upscaling_is_by_whole_numbers_and_never_shrinks(size, expected):
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    large = tiles.upscaled(image)
    assert large.shape == (expected, expected, 3)
    np.testing.assert_array_equal(large[:: expected // size, :: expected // size], image)


def test_titles_name_the_time_only_where_all_samples_agree(squares):
    valid = squares["frame_valid"]
    assert tiles.horizon_titles(squares["time_s"], valid) == ("frame 1: +0.2 s", "frame 2: +0.4 s")
    squares["time_s"][0] *= 2
    assert tiles.horizon_titles(squares["time_s"], valid) == ("frame 1", "frame 2")
