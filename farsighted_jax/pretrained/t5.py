"""Names of a T5 encoder in Hugging Face files and of our `T5Encoder`.

The files hold the whole model; its decoder and output layer are left out. The
embedding stands there as `shared.weight`, as `encoder.embed_tokens.weight`, or
as both: `untied` makes one of them.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from farsighted_jax.pretrained.rename import ConversionError, Rule, transposed

EMBEDDING = "shared.weight"
TIED = "encoder.embed_tokens.weight"
IGNORED = (r"^decoder\.", r"^lm_head\.weight$")
_ATTENTION = "encoder.block.{i}.layer.0"
_FORWARD = "encoder.block.{i}.layer.1"


def _dense(theirs, ours):
    return Rule(f"{theirs}.weight", f"blocks/{ours}/kernel", transposed)


_SHARED_RULES = (
    Rule(EMBEDDING, "embedding/embedding"),
    # Only the first block has a table of position biases; all blocks use it.
    Rule(
        "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
        "position_bias/embedding",
    ),
    _dense(f"{_ATTENTION}.SelfAttention.q", "attention/query"),
    _dense(f"{_ATTENTION}.SelfAttention.k", "attention/key"),
    _dense(f"{_ATTENTION}.SelfAttention.v", "attention/value"),
    _dense(f"{_ATTENTION}.SelfAttention.o", "attention/out"),
    Rule(f"{_ATTENTION}.layer_norm.weight", "blocks/attention_norm/scale"),
    _dense(f"{_FORWARD}.DenseReluDense.wo", "mlp/down"),
    Rule(f"{_FORWARD}.layer_norm.weight", "blocks/mlp_norm/scale"),
    Rule("encoder.final_layer_norm.weight", "final_norm/scale"),
)
RULES_V1_0 = (*_SHARED_RULES, _dense(f"{_FORWARD}.DenseReluDense.wi", "mlp/up"))
RULES_V1_1 = (
    *_SHARED_RULES,
    _dense(f"{_FORWARD}.DenseReluDense.wi_0", "mlp/gate"),
    _dense(f"{_FORWARD}.DenseReluDense.wi_1", "mlp/up"),
)


def untied(source: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The source with the embedding under one name, whichever of the two the file uses.

    Raises:
      ConversionError: both are there and differ, so they are not the same embedding.
    """
    result = dict(source)
    if TIED not in result:
        return result
    copy = np.asarray(result.pop(TIED))
    kept = np.asarray(result.setdefault(EMBEDDING, copy))
    if kept.shape != copy.shape or not np.array_equal(kept, copy):
        raise ConversionError(
            f"{EMBEDDING} {list(kept.shape)} and {TIED} {list(copy.shape)} must be one embedding, but differ"
        )
    return result
