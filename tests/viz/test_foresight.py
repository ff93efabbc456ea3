"""What was foreseen stands beside the moment that it was foreseen for."""

import numpy as np

from farsighted_jax.viz.foresight import GREY, beside


def test_a_picture_stands_beside_its_moment_until_the_next_is_due():
    frames = [np.full((4, 6, 3), step, np.uint8) for step in range(8)]
    imagined = {step: np.full((2, 2, 3), (100 + step) / 255, np.float32) for step in (0, 2, 6)}
    pairs = beside(frames, imagined, 3)
    assert [pair.shape for pair in pairs] == [(4, 12, 3)] * 8
    assert [int(pair[:, :6].mean()) for pair in pairs] == list(range(8))
    assert [int(pair[:, 6:].max()) for pair in pairs] == [GREY] * 3 + [100, 100, 102, 102, 102]


def test_a_picture_of_another_size_is_brought_to_that_of_the_frame():
    half = np.zeros((2, 2, 3))
    half[:, 1] = 1
    (pair,) = beside([np.zeros((4, 4, 3), np.uint8)], {-1: half}, 1)
    assert (pair[:, 4:6] == 0).all() and (pair[:, 6:] == 255).all()
