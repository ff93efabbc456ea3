"""Names of the authors' published F-LAM encoder (torch) and of our `SpaceTimeEncoder`.

Their encoder numbers its tokens 0..Z+N-1 and has no position in time: use it
with `positions="index"` and `exact_gelu=True`. Their codebook is
`vector_quantizer.embedding.weight`, ours is handed to the quantiser.
"""

from __future__ import annotations

from farsighted_jax.pretrained.rename import Rule, transposed
from farsighted_jax.pretrained.rules import dense, norm

CODEBOOK = "codebook"
_BLOCK = "encoder.transformer_blocks.{i}"
_OURS = "transformer/blocks"


def _attention(theirs, ours):
    return [
        Rule(f"{_BLOCK}.{theirs}.to_q.weight", f"{_OURS}/{ours}/query/kernel", transposed),
        Rule(f"{_BLOCK}.{theirs}.to_k.weight", f"{_OURS}/{ours}/key/kernel", transposed),
        Rule(f"{_BLOCK}.{theirs}.to_v.weight", f"{_OURS}/{ours}/value/kernel", transposed),
        Rule(f"{_BLOCK}.{theirs}.to_out.0.weight", f"{_OURS}/{ours}/out/kernel", transposed),
        Rule(f"{_BLOCK}.{theirs}.to_out.0.bias", f"{_OURS}/{ours}/out/bias"),
    ]


RULES = (
    Rule("action_latent", "queries", lambda array: array[0]),
    *norm("encoder.ffn.0", "input_norm"),
    *dense("encoder.ffn.1", "input"),
    *norm("encoder.ffn.2", "width_norm"),
    *_attention("spatial_attn", "space"),
    *_attention("temporal_attn", "time"),
    *dense(f"{_BLOCK}.ffn.0", f"{_OURS}/mlp/up"),
    *dense(f"{_BLOCK}.ffn.3", f"{_OURS}/mlp/down"),
    *norm(f"{_BLOCK}.norm1", f"{_OURS}/space_norm"),
    *norm(f"{_BLOCK}.norm2", f"{_OURS}/time_norm"),
    *norm(f"{_BLOCK}.norm3", f"{_OURS}/mlp_norm"),
    *dense("to_codebook", "to_code"),
    Rule("vector_quantizer.embedding.weight", CODEBOOK),
)
