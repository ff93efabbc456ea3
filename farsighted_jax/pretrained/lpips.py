"""Names of the `lpips` package's linear weights for VGG16 (version 0.1).

The package ships them alone as `lin{i}.model.1.weight`. The state of its whole
module repeats them as `lins.{i}`, and holds the input scaling (constants in
`losses.perceptual`) and torchvision's VGG16 (`pretrained.vgg`) too: left out.
"""

from __future__ import annotations

import numpy as np

from farsighted_jax.pretrained.rename import Rule

NUM_LAYERS = 5
IGNORED = (r"^lins\.\d+\.model\.1\.weight$", r"^scaling_layer\.(shift|scale)$", r"^net\.slice\d+\.\d+\.")


def per_channel(array: np.ndarray) -> np.ndarray:
    """A 1x1 convolution to one channel, [1, E, 1, 1], as one weight a channel, [E].

    Any other shape stays as it is, for the table to name it.
    """
    is_column = array.ndim == 4 and array.shape[0] == array.shape[2] == array.shape[3] == 1
    return array.reshape(-1) if is_column else array


RULES = tuple(
    Rule(f"lin{index}.model.1.weight", f"lin{index}/scale", per_channel) for index in range(NUM_LAYERS)
)


def linear_params(params) -> list:
    """The weights of {"lin0": {"scale": float[E]}, ...} in order, as `losses.perceptual.lpips` takes them."""
    return [params[f"lin{index}"]["scale"] for index in range(NUM_LAYERS)]


def expected_shapes(widths: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Shapes of the parameters for a network of the given channels a stage."""
    return {f"lin{index}/scale": (width,) for index, width in enumerate(widths)}
