"""Names of DINOv2's weights: on the Hugging Face hub, in transformers 5, in the authors' torch-hub files."""

from __future__ import annotations

import jax
import numpy as np

from farsighted_jax.encoders.dinov2 import VARIANTS, dinov2
from farsighted_jax.pretrained.entry import Layout, PretrainedModel
from farsighted_jax.pretrained.rename import Rule
from farsighted_jax.pretrained.rules import dense, first, fused, norm, patch_kernel

# Only pretraining hides patches behind this token.
IGNORED = (r"(^|\.)mask_token$",)

_OURS = "blocks"
_QKV = ("query", "key", "value")
_SIZE_NAMES = {"s": "small", "b": "base", "l": "large", "g": "giant"}


def huggingface_rules(theirs: str = "", ours: str = "", *, renamed: bool = False) -> tuple[Rule, ...]:
    """The table of the hub's files, or of the module names of transformers 5.

    Args:
      theirs: what stands before every source name.
      ours: what stands before every path of ours.
      renamed: the names of transformers 5 instead of those of the files.
    """
    block, path = f"{theirs}encoder.layer.{{i}}", f"{ours}{_OURS}"
    qkv = ("q_proj", "k_proj", "v_proj") if renamed else tuple(f"attention.{n}" for n in _QKV)
    attention = [
        rule
        for name, target in zip(qkv, _QKV, strict=True)
        for rule in dense(f"{block}.attention.{name}", f"{path}/attention/{target}")
    ]
    out = "o_proj" if renamed else "output.dense"
    gated = (
        [
            *dense(f"{block}.mlp.gate_proj", f"{path}/mlp/gate"),
            *dense(f"{block}.mlp.up_proj", f"{path}/mlp/up"),
            *dense(f"{block}.mlp.down_proj", f"{path}/mlp/down"),
        ]
        if renamed
        else [
            *fused(f"{block}.mlp.weights_in", (f"{path}/mlp/gate", f"{path}/mlp/up")),
            *dense(f"{block}.mlp.weights_out", f"{path}/mlp/down"),
        ]
    )
    embeddings = f"{theirs}embeddings"
    return (
        Rule(f"{embeddings}.cls_token", f"{ours}class_token/embedding", first),
        Rule(f"{embeddings}.register_tokens", f"{ours}registers/embedding", first),
        Rule(f"{embeddings}.position_embeddings", f"{ours}positions/embedding", first),
        *_patches(f"{embeddings}.patch_embeddings.projection", ours),
        *attention,
        *dense(f"{block}.attention.{out}", f"{path}/attention/out"),
        *dense(f"{block}.mlp.fc1", f"{path}/mlp/up"),
        *dense(f"{block}.mlp.fc2", f"{path}/mlp/down"),
        *gated,
        *norm(f"{block}.norm1", f"{path}/attention_norm"),
        *norm(f"{block}.norm2", f"{path}/mlp_norm"),
        Rule(f"{block}.layer_scale1.lambda1", f"{path}/attention_scale"),
        Rule(f"{block}.layer_scale2.lambda1", f"{path}/mlp_scale"),
        *norm(f"{theirs}layernorm", f"{ours}norm"),
    )


def torch_hub_rules(theirs: str = "", ours: str = "") -> tuple[Rule, ...]:
    """The table of the authors' files; blocks may stand in chunks, "blocks.0.3", numbered throughout."""
    path = f"{ours}{_OURS}"
    rules = [
        Rule(f"{theirs}cls_token", f"{ours}class_token/embedding", first),
        Rule(f"{theirs}register_tokens", f"{ours}registers/embedding", first),
        Rule(f"{theirs}pos_embed", f"{ours}positions/embedding", first),
        *_patches(f"{theirs}patch_embed.proj", ours),
        *norm(f"{theirs}norm", f"{ours}norm"),
    ]
    for block in (f"{theirs}blocks.{{i}}", f"{theirs}blocks.{{any}}.{{i}}"):
        rules += [
            *fused(f"{block}.attn.qkv", tuple(f"{path}/attention/{name}" for name in _QKV)),
            *dense(f"{block}.attn.proj", f"{path}/attention/out"),
            *dense(f"{block}.mlp.fc1", f"{path}/mlp/up"),
            *dense(f"{block}.mlp.fc2", f"{path}/mlp/down"),
            *fused(f"{block}.mlp.w12", (f"{path}/mlp/gate", f"{path}/mlp/up")),
            *dense(f"{block}.mlp.w3", f"{path}/mlp/down"),
            *norm(f"{block}.norm1", f"{path}/attention_norm"),
            *norm(f"{block}.norm2", f"{path}/mlp_norm"),
            Rule(f"{block}.ls1.gamma", f"{path}/attention_scale"),
            Rule(f"{block}.ls2.gamma", f"{path}/mlp_scale"),
        ]
    return tuple(rules)


def _patches(theirs, ours):
    return (
        Rule(f"{theirs}.weight", f"{ours}patch_embedding/kernel", patch_kernel),
        Rule(f"{theirs}.bias", f"{ours}patch_embedding/bias"),
    )


LAYOUTS = {
    "huggingface": Layout(r"^encoder\.layer\.0\.attention\.attention\.", huggingface_rules(), IGNORED),
    "transformers5": Layout(
        r"^encoder\.layer\.0\.attention\.q_proj\.", huggingface_rules(renamed=True), IGNORED
    ),
    "torch_hub": Layout(r"^blocks\.(0\.)?0\.attn\.qkv\.", torch_hub_rules(), IGNORED),
}


def _repository(variant):
    family = "dinov2-with-registers" if variant.endswith("_reg") else "dinov2"
    return f"facebook/{family}-{_SIZE_NAMES[variant[3]]}"


def model_named(variant: str) -> PretrainedModel:
    """The table's entry of a variant of `encoders.dinov2`."""
    return PretrainedModel(
        module=lambda **changes: dinov2(variant, **changes),
        inputs=(jax.ShapeDtypeStruct((1, 14, 14, 3), np.float32),),
        layouts=LAYOUTS,
        repository=_repository(variant),
    )


# "dinov2-vitb14", "dinov2-vitb14-reg", ...
MODELS = {f"dinov2-{variant.replace('_', '-')}": model_named(variant) for variant in VARIANTS}
