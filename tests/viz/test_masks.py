import cv2
import numpy as np
import pytest

from farsighted_jax.policy.layout import Layout
from farsighted_jax.viz import masks

LAYOUT = Layout(3, 2, 2, (1, 2), 1, (1, 2), 2, 2, 3)


def test_a_cell_has_the_color_of_what_is_seen():
    group_S = LAYOUT.tokens().group
    S = len(group_S)
    mask_SS, valid_S = np.eye(S, dtype=bool), np.arange(S) != 2
    mask_SS[2, 2] = False
    image = masks._colored(mask_SS, valid_S, group_S)
    assert image.shape == (S, S, 3)
    assert tuple(image[0, 1]) == (255, 255, 255) and tuple(image[5, 2]) == (0xD9,) * 3
    assert len({tuple(image[s, s]) for s in range(S) if s != 2}) == 4


def test_the_picture_shows_padding_and_a_hidden_plan(tmp_path):
    pytest.importorskip("matplotlib")
    valid_S = np.arange(len(LAYOUT.tokens().group)) != 2
    plain = cv2.imread(str(masks.attention_mask(tmp_path / "plain.png", LAYOUT)))
    padded = cv2.imread(str(masks.attention_mask(tmp_path / "padded.png", LAYOUT, valid_S)))
    hidden = cv2.imread(str(masks.attention_mask(tmp_path / "hidden.png", LAYOUT, plan_hidden=True)))
    assert plain.shape == padded.shape == hidden.shape and plain.std() > 30
    assert (plain != padded).any() and (plain != hidden).any() and (padded != hidden).any()


def test_a_validity_of_another_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"expected bool\[22\] for this layout, found \[4\]"):
        masks.attention_mask(tmp_path / "x.png", LAYOUT, np.ones(4, bool))
