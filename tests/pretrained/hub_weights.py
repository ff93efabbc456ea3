"""Random weights under the names of the authors of DINOv2."""

import numpy as np


def torch_hub_weights(seed=0):
    """Random weights of "tiny" under the authors' names."""
    rng = np.random.default_rng(seed)
    shapes = {
        "cls_token": (1, 1, 4), "mask_token": (1, 4), "pos_embed": (1, 10, 4),
        "patch_embed.proj.weight": (4, 3, 2, 2), "patch_embed.proj.bias": (4,),
        "norm.weight": (4,), "norm.bias": (4,),
    }  # fmt: skip
    for layer in range(2):
        inner = {
            "attn.qkv.weight": (12, 4), "attn.qkv.bias": (12,),
            "attn.proj.weight": (4, 4), "attn.proj.bias": (4,),
            "mlp.fc1.weight": (16, 4), "mlp.fc1.bias": (16,), "mlp.fc2.weight": (4, 16), "mlp.fc2.bias": (4,),
            "norm1.weight": (4,), "norm1.bias": (4,), "norm2.weight": (4,), "norm2.bias": (4,),
            "ls1.gamma": (4,), "ls2.gamma": (4,),
        }  # fmt: skip
        shapes |= {f"blocks.{layer}.{name}": shape for name, shape in inner.items()}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
