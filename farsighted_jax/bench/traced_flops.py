"""Arithmetic counted in what jax traces: matrix products and convolutions, loops and kernels by rounds."""

from __future__ import annotations

import collections
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params

from farsighted_jax.core import tree
from farsighted_jax.core.task import FROZEN, PERCEPTUAL, PRETRAINED, WEIGHTS_ALONE, Task


def traced_flops(function: Callable, *arguments: Any) -> int:
    """FLOPs of a function of arrays or shapes, 2 m n k a product; computes nothing."""
    return products(jax.make_jaxpr(function)(*arguments).jaxpr)


def products(jaxpr: Any) -> int:
    """The same of a program that is traced already."""
    return sum(products_by_scope(jaxpr).values())


def products_by_scope(jaxpr: Any, scopes: Sequence[str] = (), outer: str = "") -> dict[str, int]:
    """The same by the innermost `jax.named_scope` of these that a product stands in; "" in none.

    A scope holds for the backward pass of what was computed in it.
    """
    total: dict[str, int] = collections.Counter()
    for equation in jaxpr.eqns:
        stack = str(equation.source_info.name_stack)
        # Names of an inner program are relative to where it stands.
        scope = max((name for name in scopes if name in stack), key=stack.rfind, default=outer)
        for inner in jaxprs_in_params(equation.params):
            for name, count in products_by_scope(inner, scopes, scope).items():
                total[name] += count * _times(equation)
        total[scope] += _product(equation)
    return total


def _times(equation):
    """How often an inner program runs, on all devices together; a `shard_map` is over the whole mesh."""
    params = equation.params
    if equation.primitive.name == "pallas_call":
        return math.prod(params["grid_mapping"].grid)
    if equation.primitive.name == "shard_map":
        return params["mesh"].size
    return params.get("length", 1)


def _product(equation):
    output = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2 * output * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
    if equation.primitive.name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
        return 2 * output * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
    return 0


def gradient_flops(task: Task, batch: Mapping[str, Any], freeze: Sequence[str] = ()) -> dict[str, int]:
    """FLOPs of loss and gradient of a batch; nothing is computed or compiled.

    A convolution's gradient counts what it computes if padding and the holes of
    a stride were values.

    Args:
      task: without rematerialisation, for what is computed twice counts twice.
      batch: arrays or their shapes.
      freeze: patterns of the parameters that get no gradient.

    Returns:
      "trained": of the model itself, its frozen parameters included; "frozen" and
      "perceptual": see `core.task.FROZEN` and `PERCEPTUAL`, where there are such.
    """
    key = jax.eval_shape(jax.random.key, 0)
    params, model_state = jax.eval_shape(task.init, key, batch)
    learned, frozen = tree.partition(params, freeze)
    frozen = {**frozen, PRETRAINED: task.pretrained_shapes()}
    rows = len(jax.tree.leaves(batch)) and jax.tree.leaves(batch)[0].shape[0]
    batch = {**batch, "row": jax.ShapeDtypeStruct((rows,), "int32")}

    def loss(learned, frozen, model_state, batch, key):
        denominators = task.denominators(batch)
        whole = tree.merged(learned, frozen)
        return task.loss(whole, model_state, batch, key, denominators)[0]

    traced = jax.make_jaxpr(jax.value_and_grad(loss))(learned, frozen, model_state, batch, key)
    counted = products_by_scope(traced.jaxpr, (FROZEN, PERCEPTUAL, WEIGHTS_ALONE))
    parts = {"trained": "", "frozen": FROZEN, "perceptual": PERCEPTUAL}
    return {name: counted[scope] for name, scope in parts.items() if counted.get(scope)}
