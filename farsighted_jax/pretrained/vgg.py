"""Names of torchvision's VGG16 and of our `Vgg16Features`.

torchvision numbers convolutions, activations and poolings in one sequence
`features.N`; timm keeps these names and calls the classifier otherwise. The
classifier is left out. Variants with batch norm or 19 layers have other
numbers, so that the table refuses them.
"""

from __future__ import annotations

import numpy as np

from farsighted_jax.pretrained.rename import Rule

IGNORED = (
    r"^classifier\.(0|3|6)\.(weight|bias)$",
    r"^(pre_logits\.fc1|pre_logits\.fc2|head\.fc)\.(weight|bias)$",
)

# Position in the sequence, by our name.
LAYERS = {
    "conv1_1": 0,
    "conv1_2": 2,
    "conv2_1": 5,
    "conv2_2": 7,
    "conv3_1": 10,
    "conv3_2": 12,
    "conv3_3": 14,
    "conv4_1": 17,
    "conv4_2": 19,
    "conv4_3": 21,
    "conv5_1": 24,
    "conv5_2": 26,
    "conv5_3": 28,
}


def convolution(array: np.ndarray) -> np.ndarray:
    """A torch convolution weight [out, in, height, width] as a kernel [height, width, in, out].

    An array of another rank stays as it is, for the table to name its shape.
    """
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array


RULES = tuple(
    rule
    for name, number in LAYERS.items()
    for rule in (
        Rule(f"features.{number}.weight", f"{name}/kernel", convolution),
        Rule(f"features.{number}.bias", f"{name}/bias"),
    )
)
