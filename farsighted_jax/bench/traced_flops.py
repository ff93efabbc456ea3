"""Arithmetic counted in what jax traces: matrix products and convolutions, loops times their length."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.extend.core import jaxprs_in_params

from farsighted_jax.core import tree
from farsighted_jax.core.task import PRETRAINED, Task


def traced_flops(function: Callable, *arguments: Any) -> int:
    """FLOPs of a function of arrays or shapes, 2 m n k a product; computes nothing."""
    return products(jax.make_jaxpr(function)(*arguments).jaxpr)


def products(jaxpr: Any) -> int:
    """The same of a program that is traced already."""
    total = 0
    for equation in jaxpr.eqns:
        output = math.prod(equation.outvars[0].aval.shape) if equation.outvars else 0
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            total += 2 * output * math.prod(equation.invars[0].aval.shape[axis] for axis in contracted)
        elif equation.primitive.name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, equation.params["dimension_numbers"]
            total += 2 * output * math.prod(kernel) // kernel[numbers.rhs_spec[0]]
        else:
            inner = sum(products(found) for found in jaxprs_in_params(equation.params))
            total += inner * equation.params.get("length", 1)
    return total


def gradient_flops(task: Task, batch: Mapping[str, Any], freeze: tuple[str, ...] = ()) -> int:
    """FLOPs of loss and gradient of a batch.

    A convolution's gradient counts what it computes if padding and the holes of
    a stride were values.

    Args:
      task: without rematerialisation, for what is computed twice counts twice.
      batch: shapes.
      freeze: patterns of the parameters that get no gradient.
    """
    params, model_state = jax.eval_shape(task.init, jax.random.key(0), _zeros(batch))
    learned, frozen = tree.partition(params, freeze)
    frozen = {**frozen, PRETRAINED: task.pretrained_shapes()}
    rows = len(jax.tree.leaves(batch)) and jax.tree.leaves(batch)[0].shape[0]
    batch = {**batch, "row": jax.ShapeDtypeStruct((rows,), "int32")}

    def loss(learned, frozen, model_state, batch):
        denominators = task.denominators(batch)
        whole = tree.merged(learned, frozen)
        return task.loss(whole, model_state, batch, jax.random.key(0), denominators)[0]

    return traced_flops(jax.value_and_grad(loss), learned, frozen, model_state, batch)


def _zeros(batch):
    return {name: jax.numpy.zeros(leaf.shape, leaf.dtype) for name, leaf in batch.items()}
