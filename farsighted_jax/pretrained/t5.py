"""Names of a T5 encoder in Hugging Face files and of our `T5Encoder`.

The files hold the whole model; its decoder and output layer are left out. The
embedding stands there as `shared.weight`, as `encoder.embed_tokens.weight`, or
as both, which are then equal.
"""

from __future__ import annotations

import jax
import numpy as np

from data_pipelines.language.piece_tokenizer import FILE as TOKENIZER
from farsighted_jax.encoders.t5 import VARIANTS, t5_encoder
from farsighted_jax.pretrained.entry import Layout, PretrainedModel
from farsighted_jax.pretrained.rename import Rule, transposed

# All versions have one vocabulary; the repositories of 1.1 have it in sentencepiece's own format alone.
TOKENIZER_REPOSITORY = "google-t5/t5-base"
IGNORED = (r"^decoder\.", r"^lm_head\.weight$")
_ATTENTION = "encoder.block.{i}.layer.0"
_FORWARD = "encoder.block.{i}.layer.1"


def _dense(theirs, ours):
    return Rule(f"{theirs}.weight", f"blocks/{ours}/kernel", transposed)


_SHARED_RULES = (
    Rule("shared.weight", "embedding/embedding", tied=True),
    Rule("encoder.embed_tokens.weight", "embedding/embedding", tied=True),
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
RULES = (*_SHARED_RULES, _dense(f"{_FORWARD}.DenseReluDense.wi", "mlp/up"))
GATED_RULES = (
    *_SHARED_RULES,
    _dense(f"{_FORWARD}.DenseReluDense.wi_0", "mlp/gate"),
    _dense(f"{_FORWARD}.DenseReluDense.wi_1", "mlp/up"),
)


def layouts(gated: bool) -> dict[str, Layout]:
    """The one naming scheme of version 1.1 (gated) or 1.0."""
    marker = r"^encoder\.block\.0\.layer\.0\.SelfAttention\.q\.weight$"
    return {"huggingface": Layout(marker, GATED_RULES if gated else RULES, IGNORED)}


def _hub_name(variant):
    return f"t5-{variant.replace('v1_1_', 'v1_1-')}"


def model_named(variant: str) -> PretrainedModel:
    """The table's entry of a variant of `encoders.t5`."""
    gated = VARIANTS[variant]["gated"]
    return PretrainedModel(
        module=lambda **changes: t5_encoder(variant, **changes),
        inputs=(jax.ShapeDtypeStruct((1, 2), np.int32), jax.ShapeDtypeStruct((1, 2), np.bool_)),
        layouts=layouts(gated),
        repository=f"{'google' if gated else 'google-t5'}/{_hub_name(variant)}",
        tokenizer=TOKENIZER,
        tokenizer_repository=TOKENIZER_REPOSITORY,
    )


# "t5-base", "t5-v1_1-xxl", ...: the names of the hub.
MODELS = {_hub_name(variant): model_named(variant) for variant in VARIANTS}
