"""What the table of convertible models holds: a network and the naming schemes of its weights."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from farsighted_jax.core import tree
from farsighted_jax.pretrained.rename import ConversionError, Rule, converted


@dataclasses.dataclass(frozen=True)
class Layout:
    """One naming scheme.

    Attributes:
      marker: regular expression found in a source name of this scheme and in none of the others.
      rules: see `rename`.
      ignored: patterns of source names that are left out on purpose.
    """

    marker: str
    rules: tuple[Rule, ...]
    ignored: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class PretrainedModel:
    """A network whose weights can be converted.

    Attributes:
      module: makes the network; keyword arguments (dtype, param_dtype, ...) change its attributes.
      inputs: shapes of a smallest input, for tracing.
      layouts: name -> naming scheme.
      repository: where its weights are published on the Hugging Face hub, "" for nowhere.
      file: the file there that `farsighted convert` takes, unless it is told another.
      config: what the config.json beside the weights must say, where there is
        one: key -> allowed values, None for an absent key. It tells networks
        apart whose weights have the same names and shapes.
      tokenizer: file with the tokenizer of its texts that stands beside the weights, "" for none.
      tokenizer_repository: where that file is, if not beside them.
    """

    module: Callable[..., nn.Module]
    inputs: tuple[jax.ShapeDtypeStruct, ...]
    layouts: Mapping[str, Layout]
    repository: str = ""
    file: str = "model.safetensors"
    config: Mapping[str, tuple[Any, ...]] = dataclasses.field(default_factory=dict)
    tokenizer: str = ""
    tokenizer_repository: str = ""

    def abstract_params(self, dtype=np.float32) -> dict[str, Any]:
        """Shapes of all parameters as nested dicts; allocates nothing."""
        module = self.module(param_dtype=dtype)
        return jax.eval_shape(module.init, jax.random.key(0), *self.inputs)["params"]


def converted_params(model: PretrainedModel, source: Mapping[str, np.ndarray], dtype=np.float32):
    """Weights of another implementation as our parameters.

    Args:
      model: whose weights they are.
      source: name -> array, in one of the model's layouts.
      dtype: of the result.

    Returns:
      params: nested dicts of arrays.
      layout: name of the layout that was found.

    Raises:
      ConversionError: no layout fits, or a name, a parameter or a shape does
        not; the message lists all of them.
    """
    name = layout_name(model.layouts, source)
    layout = model.layouts[name]
    abstract = tree.flat_paths(model.abstract_params())
    expected = {path: leaf.shape for path, leaf in abstract.items()}
    flat = converted(source, layout.rules, expected, layout.ignored)
    return tree.nested({path: np.asarray(array, dtype) for path, array in flat.items()}), name


def check_config(model: PretrainedModel, weights: Path) -> None:
    """Compares `PretrainedModel.config` with the config.json beside the weights.

    Args:
      model: what the weights are to be.
      weights: file or folder.

    Raises:
      ConversionError: they are of another network; lists every key that differs.
    """
    path = (weights if weights.is_dir() else weights.parent) / "config.json"
    if not model.config or not path.is_file():
        return
    try:
        config = dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise ConversionError(f"{path}: expected a JSON object ({error})") from error
    lines = [
        f"{key}: {config.get(key)!r}, expected {' or '.join(map(repr, allowed))}"
        for key, allowed in model.config.items()
        if config.get(key) not in allowed
    ]
    if lines:
        raise ConversionError(f"{path}: these are weights of another network:\n  " + "\n  ".join(lines))


def layout_name(layouts: Mapping[str, Layout], source: Mapping[str, np.ndarray]) -> str:
    """Which naming scheme the names follow, told by the layouts' markers.

    Raises:
      ConversionError: none or several; names the schemes and the first names.
    """
    found = [name for name, layout in layouts.items() if any(re.search(layout.marker, key) for key in source)]
    if len(found) != 1:
        markers = ", ".join(f"{name} (a name with {layout.marker!r})" for name, layout in layouts.items())
        raise ConversionError(
            f"these are weights of {' and '.join(found) or 'no known layout'}; expected exactly one of "
            f"{markers}; first of {len(source)} names: {sorted(source)[:6]}"
        )
    return found[0]
