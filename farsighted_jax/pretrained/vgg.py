"""Names of VGG16's convolutions in torchvision, timm and the `lpips` package.

torchvision numbers convolutions, activations and poolings in one sequence
`features.N`; timm keeps these names and calls the classifier otherwise; the
module of `lpips` cuts the sequence into slices and keeps the numbers. The
classifier is left out. Variants with batch norm or 19 layers have other
numbers, so that the tables refuse them.
"""

from __future__ import annotations

import jax
import numpy as np

from farsighted_jax.encoders.vgg import SMALLEST, Vgg16Features
from farsighted_jax.pretrained.entry import Layout, PretrainedModel
from farsighted_jax.pretrained.rules import conv

# Positions in the sequence, one row a stage.
NUMBERS = ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28))

TORCHVISION_IGNORED = (
    r"^classifier\.(0|3|6)\.(weight|bias)$",
    r"^(pre_logits\.fc1|pre_logits\.fc2|head\.fc)\.(weight|bias)$",
)
LPIPS_IGNORED = (r"^(lin|lins\.)\d+\.model\.1\.weight$", r"^scaling_layer\.(shift|scale)$")


def _rules(theirs):
    """Rules of all convolutions; "{stage}" in `theirs` is the number of the stage."""
    rules = []
    for stage, numbers in enumerate(NUMBERS, start=1):
        for index, number in enumerate(numbers, start=1):
            rules += conv(f"{theirs.format(stage=stage)}.{number}", f"conv{stage}_{index}")
    return tuple(rules)


LAYOUTS = {
    "torchvision": Layout(r"^features\.0\.weight$", _rules("features"), TORCHVISION_IGNORED),
    "lpips": Layout(r"^net\.slice1\.0\.weight$", _rules("net.slice{stage}"), LPIPS_IGNORED),
}

MODELS = {
    "vgg16": PretrainedModel(
        module=Vgg16Features,
        inputs=(jax.ShapeDtypeStruct((1, SMALLEST, SMALLEST, 3), np.float32),),
        layouts=LAYOUTS,
        repository="timm/vgg16.tv_in1k",
    )
}
