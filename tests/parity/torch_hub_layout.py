"""The names of the authors' files, written down a second time and by another route than the tables."""

import re

import numpy as np


def torch_hub_names(source, chunks=None):
    """A hub file's arrays under the authors' names, fused as theirs are; `chunks` blocks a chunk."""
    names = {
        "embeddings.cls_token": "cls_token",
        "embeddings.mask_token": "mask_token",
        "embeddings.register_tokens": "register_tokens",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection.weight": "patch_embed.proj.weight",
        "embeddings.patch_embeddings.projection.bias": "patch_embed.proj.bias",
        "layernorm.weight": "norm.weight",
        "layernorm.bias": "norm.bias",
    }
    inner = {
        "attention.output.dense": "attn.proj",
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        "mlp.weights_in": "mlp.w12",
        "mlp.weights_out": "mlp.w3",
    }
    result = {}
    for name, array in source.items():
        if name in names:
            result[names[name]] = array
            continue
        layer, rest = re.fullmatch(r"encoder\.layer\.(\d+)\.(.*)", name).groups()
        block = f"blocks.{int(layer) // chunks}.{layer}" if chunks else f"blocks.{layer}"
        if "attention.attention.query" in name:
            parts = [source[name.replace("query", part)] for part in ("query", "key", "value")]
            result[f"{block}.attn.qkv.{name.rpartition('.')[2]}"] = np.concatenate(parts)
        elif "attention.attention" not in name:
            for theirs, ours in inner.items():
                rest = rest.replace(theirs, ours)
            result[f"{block}.{rest}"] = array
    return result
