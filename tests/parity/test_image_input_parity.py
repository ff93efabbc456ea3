"""Our preprocessing for frozen encoders against the reference image processors."""

import jax
import numpy as np
import pytest
from reference import required

from data_pipelines.frame import decode_rgb
from data_pipelines.rlds import open_split
from farsighted_jax.encoders.image_input import MEAN_RGB, STD_RGB, normalized_rgb, resized_rgb

pytestmark = pytest.mark.parity

# Pillow, behind the reference, rounds to whole levels after the rows and again after the columns; a
# bicubic kernel spreads the first rounding by at most 1.25. Ours does not round: 0.5 * 1.25 + 0.5 levels.
# That holds where Pillow takes the columns first. Pillow 13 takes the rows first where they shrink more:
# then what overshoots is cut in the other order, and single values beside an edge differ by a few levels.
LEVELS = 1.125
TOLERANCE = LEVELS / 255 / STD_RGB.min()


def procedural_image():
    """uint8[60, 80, 3] with edges, a gradient and noise."""
    rng = np.random.default_rng(0)
    values = np.linspace(0, 200, 80)[None, :, None] + rng.normal(scale=20, size=(60, 80, 3))
    values[20:40, 30:50] = (250, 5, 120)
    return np.clip(values, 0, 255).astype(np.uint8)


@pytest.fixture(params=["procedural", "real"])
def image(request):
    """uint8[H, W, 3]."""
    if request.param == "procedural":
        return procedural_image()
    folder = request.getfixturevalue("bridge_dir")
    cache = request.getfixturevalue("tmp_path")
    episode = open_split(folder, "bridge_dataset", "val", cache_dir=cache).episode(0)
    return decode_rgb(episode.rgb_bytes(0))


def processed(processor, picture):
    """float32[H, W, 3] of a reference processor."""
    return processor(picture, return_tensors="np")["pixel_values"][0].transpose(1, 2, 0)


def ours(picture, height, width):
    function = jax.jit(lambda rgb: normalized_rgb(resized_rgb(rgb, height, width)))
    return np.asarray(function(picture))


@pytest.mark.parametrize("shortest", [42, 84])
def test_the_preprocessing_of_dinov2(image, shortest):
    _, transformers = required()
    processor = getattr(transformers, "BitImageProcessorPil", transformers.BitImageProcessor)(
        size={"shortest_edge": shortest}, crop_size={"height": 28, "width": 42},
        image_mean=MEAN_RGB.tolist(), image_std=STD_RGB.tolist(),
    )  # fmt: skip
    want = processed(processor, image)
    found = ours(image, shortest, shortest * image.shape[1] // image.shape[0])
    top, left = (found.shape[0] - 28) // 2, (found.shape[1] - 42) // 2
    found = found[top : top + 28, left : left + 42]
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= TOLERANCE


@pytest.mark.parametrize("size", [(42, 42), (98, 126)])
def test_the_preprocessing_of_depth_anything(image, size):
    _, transformers = required()
    processor = getattr(transformers, "DPTImageProcessorPil", transformers.DPTImageProcessor)(
        size={"height": size[0], "width": size[1]}, ensure_multiple_of=14,
        image_mean=MEAN_RGB.tolist(), image_std=STD_RGB.tolist(),
    )  # fmt: skip
    want = processed(processor, image)
    found = ours(image, *size)
    assert found.shape == want.shape
    assert np.abs(found - want).max() <= TOLERANCE


def test_at_equal_size_nothing_but_the_scale_changes(image):
    _, transformers = required()
    processor = getattr(transformers, "DPTImageProcessorPil", transformers.DPTImageProcessor)(
        do_resize=False, image_mean=MEAN_RGB.tolist(), image_std=STD_RGB.tolist()
    )
    np.testing.assert_allclose(ours(image, *image.shape[:2]), processed(processor, image), atol=1e-6)
