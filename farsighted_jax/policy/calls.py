"""Counts how often parts of a model really run, loops included: the proof that nothing runs twice."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax

from farsighted_jax.layers.prefix_attention import PrefixTransformer
from farsighted_jax.policy.action_head import ActionHead

# Name -> the module whose calls are counted.
COUNTED = {"backbone": PrefixTransformer, "action_head": ActionHead}


def calls_of(function: Callable, *arguments: Any) -> dict[str, int]:
    """Calls of each module of `COUNTED` while a function runs once; those of a loop count every time.

    The function is compiled anew for it, with a note to the host at each call.

    Args:
      function: applies a policy; must be traceable.
      arguments: of the function.
    """
    counts = collections.Counter(dict.fromkeys(COUNTED, 0))

    def intercept(call, args, kwargs, context):
        for name, module in COUNTED.items():
            if isinstance(context.module, module) and context.method_name == "__call__":
                jax.debug.callback(lambda name=name: counts.update([name]))
        return call(*args, **kwargs)

    with nn.intercept_methods(intercept):
        # A function of its own, so that nothing compiled before, without the notes, is used.
        jax.block_until_ready(jax.jit(lambda *inputs: function(*inputs))(*arguments))
    jax.effects_barrier()
    return dict(counts)
