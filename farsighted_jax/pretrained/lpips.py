"""Names of the `lpips` package's linear weights for VGG16 (version 0.1).

The package ships them alone as `lin{i}.model.1.weight`. The state of its whole
module repeats them as `lins.{i}`, and holds the input scaling (constants in
`losses.perceptual`) and VGG16 (a layout of `pretrained.vgg`) too: left out.
"""

from __future__ import annotations

import numpy as np

from farsighted_jax.encoders.vgg import STAGES, LpipsWeights
from farsighted_jax.pretrained.entry import Layout, PretrainedModel
from farsighted_jax.pretrained.rename import Rule

IGNORED = (r"^lins\.\d+\.model\.1\.weight$", r"^scaling_layer\.(shift|scale)$", r"^net\.slice\d+\.\d+\.")


def per_channel(array: np.ndarray) -> np.ndarray:
    """A 1x1 convolution to one channel, [1, E, 1, 1], as one weight a channel, [E]."""
    if array.ndim != 4 or array.shape != (1, array.shape[1], 1, 1):
        raise ValueError("a 1x1 convolution to one channel has shape [1, E, 1, 1]")
    return array[0, :, 0, 0]


RULES = tuple(
    Rule(f"lin{index}.model.1.weight", f"stage{index + 1}_scale", per_channel) for index in range(len(STAGES))
)

LAYOUTS = {"lpips": Layout(r"^lin0\.model\.1\.weight$", RULES, IGNORED)}

MODELS = {
    "lpips-vgg16": PretrainedModel(
        module=LpipsWeights,
        inputs=(),
        layouts=LAYOUTS,
    )
}
