"""Names of the authors' published F-LAM encoder (torch) and of our `SpaceTimeEncoder`.

Their encoder numbers its tokens 0..Z+N-1 and has no position in time: use it
with `positions="index"` and `exact_gelu=True`. Their codebook is
`vector_quantizer.embedding.weight`, ours is handed to the quantiser.
"""

from __future__ import annotations

from farsighted_jax.pretrained.rename import Rule, transposed

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


def _norm(theirs, ours):
    return [Rule(f"{theirs}.weight", f"{ours}/scale"), Rule(f"{theirs}.bias", f"{ours}/bias")]


def _dense(theirs, ours):
    return [Rule(f"{theirs}.weight", f"{ours}/kernel", transposed), Rule(f"{theirs}.bias", f"{ours}/bias")]


RULES = (
    Rule("action_latent", "queries", lambda array: array[0]),
    *_norm("encoder.ffn.0", "input_norm"),
    *_dense("encoder.ffn.1", "input"),
    *_norm("encoder.ffn.2", "width_norm"),
    *_attention("spatial_attn", "space"),
    *_attention("temporal_attn", "time"),
    *_dense(f"{_BLOCK}.ffn.0", f"{_OURS}/mlp/up"),
    *_dense(f"{_BLOCK}.ffn.3", f"{_OURS}/mlp/down"),
    *_norm(f"{_BLOCK}.norm1", f"{_OURS}/space_norm"),
    *_norm(f"{_BLOCK}.norm2", f"{_OURS}/time_norm"),
    *_norm(f"{_BLOCK}.norm3", f"{_OURS}/mlp_norm"),
    *_dense("to_codebook", "to_code"),
    Rule("vector_quantizer.embedding.weight", CODEBOOK),
)
