"""Names of Depth Anything V2's weights: on the Hugging Face hub, in transformers 5, in the authors' files."""

from __future__ import annotations

import functools

import jax
import numpy as np

from farsighted_jax.encoders.depth_anything import METRIC_MAX_DEPTH_M, VARIANTS, depth_anything
from farsighted_jax.pretrained import dinov2
from farsighted_jax.pretrained.entry import Layout, PretrainedModel
from farsighted_jax.pretrained.rename import Rule
from farsighted_jax.pretrained.rules import conv, enlarging_kernel, pointwise

_NUM_LEVELS = 4


def huggingface_rules(*, renamed: bool = False) -> tuple[Rule, ...]:
    """The table of the hub's files; `renamed` as in `dinov2.huggingface_rules`."""
    stage, fusion = "neck.reassemble_stage.layers", "neck.fusion_stage.layers"
    rules = [*dinov2.huggingface_rules("backbone.", "encoder/", renamed=renamed)]
    for level in range(_NUM_LEVELS):
        rules += pointwise(f"{stage}.{level}.projection", f"head/project_{level}")
        rules += _resizing(f"{stage}.{level}.resize", level)
        rules.append(conv(f"neck.convs.{level}", f"head/neck_{level}")[0])
        # Theirs are in the order of use, coarsest first.
        theirs, ours = f"{fusion}.{_NUM_LEVELS - 1 - level}", f"head/fuse_{level}"
        rules += pointwise(f"{theirs}.projection", f"{ours}/project")
        for unit, name in (("residual_layer1", "level"), ("residual_layer2", "fused")):
            for index in (1, 2):
                rules += conv(f"{theirs}.{unit}.convolution{index}", f"{ours}/{name}/conv_{index}")
    rules += conv("head.conv1", "head/conv_1")
    rules += conv("head.conv2", "head/conv_2")
    rules += pointwise("head.conv3", "head/value")
    return tuple(rules)


def torch_hub_rules() -> tuple[Rule, ...]:
    """The table of the authors' files."""
    scratch = "depth_head.scratch"
    rules = [*dinov2.torch_hub_rules("pretrained.", "encoder/")]
    for level in range(_NUM_LEVELS):
        rules += pointwise(f"depth_head.projects.{level}", f"head/project_{level}")
        rules += _resizing(f"depth_head.resize_layers.{level}", level)
        rules.append(conv(f"{scratch}.layer{level + 1}_rn", f"head/neck_{level}")[0])
        theirs, ours = f"{scratch}.refinenet{level + 1}", f"head/fuse_{level}"
        rules += pointwise(f"{theirs}.out_conv", f"{ours}/project")
        for unit, name in (("resConfUnit1", "level"), ("resConfUnit2", "fused")):
            for index in (1, 2):
                rules += conv(f"{theirs}.{unit}.conv{index}", f"{ours}/{name}/conv_{index}")
    rules += conv(f"{scratch}.output_conv1", "head/conv_1")
    rules += conv(f"{scratch}.output_conv2.0", "head/conv_2")
    rules += pointwise(f"{scratch}.output_conv2.2", "head/value")
    return tuple(rules)


def _resizing(theirs, level):
    """Levels 0 and 1 enlarge, level 3 shrinks, level 2 has no layer."""
    if level in (0, 1):
        ours = f"head/enlarge_{level}"
        return [
            Rule(f"{theirs}.weight", f"{ours}/cells/kernel", enlarging_kernel),
            Rule(f"{theirs}.bias", f"{ours}/bias"),
        ]
    return conv(theirs, "head/shrink_3") if level == 3 else ()


# The coarsest level has nothing to add to, so their networks carry a unit that nothing runs through.
_UNUSED = (
    r"^neck\.fusion_stage\.layers\.0\.residual_layer1\.",
    r"^depth_head\.scratch\.refinenet4\.resConfUnit1\.",
)
_IGNORED = (*dinov2.IGNORED, *_UNUSED)
_LAYER = r"^backbone\.encoder\.layer\.0\.attention\."

LAYOUTS = {
    "huggingface": Layout(_LAYER + r"attention\.", huggingface_rules(), _IGNORED),
    "transformers5": Layout(_LAYER + r"q_proj\.", huggingface_rules(renamed=True), _IGNORED),
    "torch_hub": Layout(r"^pretrained\.blocks\.(0\.)?0\.attn\.qkv\.", torch_hub_rules(), _IGNORED),
}

_SIZE_NAMES = {"vits14": "Small", "vitb14": "Base", "vitl14": "Large"}


def model_named(variant: str, scene: str = "") -> PretrainedModel:
    """The table's entry of a variant; `scene` is "indoor" or "outdoor" for a metric network, else ""."""
    metric = f"Metric-{scene.title()}-" if scene else ""
    # Nothing but their configuration tells relative, indoor and outdoor weights apart.
    config = (
        {"depth_estimation_type": ("metric",), "max_depth": (METRIC_MAX_DEPTH_M[scene],)} if scene else {}
    )
    return PretrainedModel(
        module=functools.partial(depth_anything, variant, METRIC_MAX_DEPTH_M.get(scene)),
        inputs=(jax.ShapeDtypeStruct((1, 14, 14, 3), np.float32),),
        layouts=LAYOUTS,
        repository=f"depth-anything/Depth-Anything-V2-{metric}{_SIZE_NAMES[variant]}-hf",
        config=config or {"depth_estimation_type": ("relative", None)},
    )


# "depth-anything-vits14" gives inverse depth, "depth-anything-vits14-indoor" metres.
MODELS = {
    f"depth-anything-{variant}" + (f"-{scene}" if scene else ""): model_named(variant, scene)
    for variant in VARIANTS
    for scene in ("", *METRIC_MAX_DEPTH_M)
}
