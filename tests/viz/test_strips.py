import cv2
import numpy as np
import pytest

from farsighted_jax.viz import strips, tiles
from farsighted_jax.viz.gaps import gap_curves


def strip(seed, valid=(True, True, True)):
    frames = np.random.default_rng(seed).integers(0, 256, (3, 32, 32, 3), np.uint8)
    return strips.Strip((f"clip {seed}",), frames, np.array(valid), strips.code_captions([[1, 2], [3, 30]]))


def test_a_sheet_has_a_row_a_strip_and_a_column_a_frame():
    drawn = [strip(0), strip(1, valid=(True, True, False))]
    sheet = strips.strip_sheet(strips.frame_titles(np.array([0, 0.2, 1.0])), drawn, ("a footer",))
    top, left = tiles.MARGIN + 2 * tiles.LINE + 4, tiles.MARGIN + tiles.LABEL_WIDTH
    pitch = tiles.TILE_PX + tiles.LINE + 8
    assert sheet.shape == (
        top + 2 * pitch + tiles.LINE + tiles.MARGIN,
        left + 3 * tiles.TILE_PX + 2 * tiles.GROUP_GAP + tiles.MARGIN,
        3,
    )
    for row, column in ((0, 0), (0, 2), (1, 1)):
        y, x = top + row * pitch, left + column * (tiles.TILE_PX + tiles.GROUP_GAP)
        np.testing.assert_array_equal(
            sheet[y : y + tiles.TILE_PX, x : x + tiles.TILE_PX], tiles.upscaled(drawn[row].frames[column])
        )
    missing = sheet[top + pitch :, left + 2 * (tiles.TILE_PX + tiles.GROUP_GAP) :][
        : tiles.TILE_PX, : tiles.TILE_PX
    ]
    assert {205, 225} <= set(np.unique(missing)), "a frame that does not exist is hatched"


def test_titles_and_captions_tell_seconds_and_codes():
    assert strips.frame_titles(np.array([0, 0.2, 1.0])) == ("frame 0", "+0.2 s", "+1 s")
    assert strips.code_captions(np.array([[1, 2], [3, 30]])) == ("", "1 2", "3 30")


def test_predicted_frames_are_shown_within_their_range():
    np.testing.assert_array_equal(strips.shown_rgb(np.array([-1, 0, 0.5, 2, np.nan])), [0, 0, 128, 255, 0])


def entry(with_action=True):
    by_gap = {"1": {"translation": 0.9, "gripper": 0.2}, "2": {"translation": 0.5, "gripper": None}}
    found = {"gap_s": {"1": 0.6, "2": 1.2}, "delta_psnr": {"1": 3.0, "2": 1.0}}
    if with_action:
        found["r2"] = {name: {"quantized": by_gap} for name in ("fitted_per_gap", "fitted_at_1")}
    return found


@pytest.mark.parametrize("with_action", [True, False])
def test_gap_curves_have_a_panel_a_protocol_and_one_for_delta_psnr(tmp_path, with_action):
    image = cv2.imread(str(gap_curves(tmp_path / "g.png", "toy", entry(with_action))))
    assert image.shape[1] == pytest.approx((3 if with_action else 1) * 3.6 * 110, abs=2) and image.std() > 10
