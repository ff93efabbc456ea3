"""Name tables of T5, VGG16 and LPIPS, with names as the files have them and sizes of no importance."""

import dataclasses
import functools

import numpy as np
import pytest

from farsighted_jax.encoders.t5 import T5Encoder
from farsighted_jax.encoders.vgg import LpipsWeights, Vgg16Features
from farsighted_jax.pretrained import lpips, t5, vgg
from farsighted_jax.pretrained.entry import converted_params
from farsighted_jax.pretrained.rename import ConversionError

WIDTHS = (2, 3, 4, 5, 6)
TINY_T5 = {
    "width": 6, "ff_width": 7, "depth": 2, "num_heads": 2, "head_width": 5,
    "vocabulary": 11, "num_buckets": 8, "max_distance": 9,
}  # fmt: skip


def array(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def model_of(entry, module, **sizes):
    return dataclasses.replace(entry, module=functools.partial(module, **sizes))


def t5_model(gated):
    entry = t5.MODELS["t5-v1_1-small" if gated else "t5-small"]
    return model_of(entry, T5Encoder, gated=gated, **TINY_T5)


def t5_source(gated):
    source = {"shared.weight": array(11, 6), "encoder.final_layer_norm.weight": array(6)}
    for i in range(2):
        block = f"encoder.block.{i}.layer"
        for name, shape in {"q": (10, 6), "k": (10, 6), "v": (10, 6), "o": (6, 10)}.items():
            source[f"{block}.0.SelfAttention.{name}.weight"] = array(*shape)
        for layer in range(2):
            source[f"{block}.{layer}.layer_norm.weight"] = array(6)
        for name in ("wi_0", "wi_1") if gated else ("wi",):
            source[f"{block}.1.DenseReluDense.{name}.weight"] = array(7, 6)
        source[f"{block}.1.DenseReluDense.wo.weight"] = array(6, 7)
    source["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = array(8, 2)
    source["decoder.final_layer_norm.weight"] = array(6)
    source["lm_head.weight"] = array(11, 6)
    return source


def test_one_version_does_not_pass_for_the_other():
    for gated in (False, True):
        assert converted_params(t5_model(gated), t5_source(gated))[1] == "huggingface"
        with pytest.raises(ConversionError, match="no rule for this name") as error:
            converted_params(t5_model(gated), t5_source(not gated))
        assert "mlp/up/kernel: expected" in str(error.value)


def test_the_embedding_may_stand_under_either_name_or_both():
    source = t5_source(True)
    embedding = source.pop("shared.weight")
    for names in (
        ["shared.weight"],
        ["encoder.embed_tokens.weight"],
        ["encoder.embed_tokens.weight", "shared.weight"],
    ):
        params, _ = converted_params(t5_model(True), source | dict.fromkeys(names, embedding))
        np.testing.assert_array_equal(params["embedding"]["embedding"], embedding)
    with pytest.raises(ConversionError, match="embedding/embedding: expected.*found nothing"):
        converted_params(t5_model(True), source)


def test_two_embeddings_that_differ_are_refused():
    source = t5_source(True)
    source["encoder.embed_tokens.weight"] = source["shared.weight"] + 1e-3
    with pytest.raises(ConversionError, match="encoder.embed_tokens.weight: differs from the tied name"):
        converted_params(t5_model(True), source)


def test_a_position_bias_in_every_block_is_refused():
    source = t5_source(True)
    source["encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight"] = array(8, 2)
    with pytest.raises(ConversionError, match="block.1.*relative_attention_bias.weight: no rule"):
        converted_params(t5_model(True), source)


def vgg_source(name="features.{number}", num_layers=13):
    channels = [
        (3, 2),
        (2, 2),
        (2, 3),
        (3, 3),
        (3, 4),
        (4, 4),
        (4, 4),
        (4, 5),
        (5, 5),
        (5, 5),
        (5, 6),
        (6, 6),
        (6, 6),
    ]
    source = {}
    numbers = [(stage, number) for stage, row in enumerate(vgg.NUMBERS, start=1) for number in row]
    for (stage, number), (before, after) in zip(numbers[:num_layers], channels, strict=False):
        layer = name.format(stage=stage, number=number)
        source[f"{layer}.weight"], source[f"{layer}.bias"] = array(after, before, 3, 3), array(after)
    return source


def vgg_model():
    return model_of(vgg.MODELS["vgg16"], Vgg16Features, widths=WIDTHS)


CLASSIFIERS = {
    "torchvision": ["classifier.0.weight", "classifier.3.bias", "classifier.6.weight"],
    "timm": ["pre_logits.fc1.weight", "pre_logits.fc2.bias", "head.fc.weight"],
}


@pytest.mark.parametrize("origin", CLASSIFIERS)
def test_the_classifier_of_vgg_is_left_out(origin):
    source = vgg_source() | dict.fromkeys(CLASSIFIERS[origin], array(4, 5))
    params, layout = converted_params(vgg_model(), source)
    assert layout == "torchvision"
    kernel, weight = params["conv3_2"]["kernel"], source["features.12.weight"]
    assert kernel[0, 2, 1, 3] == weight[3, 1, 0, 2]


def test_vgg_with_batch_norm_or_more_layers_is_refused():
    source = vgg_source() | {"features.1.running_mean": array(2), "features.34.weight": array(6, 6, 3, 3)}
    source["features.21.weight"] = array(5)
    with pytest.raises(ConversionError) as error:
        converted_params(vgg_model(), source)
    for named in (
        "features.1.running_mean: no rule",
        "features.34.weight: no rule",
        "features.21.weight, shape [5]",
    ):
        assert named in str(error.value)


def lpips_source():
    return {f"lin{index}.model.1.weight": array(1, width, 1, 1) for index, width in enumerate(WIDTHS)}


def test_the_state_of_the_whole_lpips_module_gives_both_parts():
    source = vgg_source("net.slice{stage}.{number}") | lpips_source()
    source |= {name.replace("lin", "lins."): value for name, value in lpips_source().items()}
    source |= {"scaling_layer.shift": array(1, 3, 1, 1), "scaling_layer.scale": array(1, 3, 1, 1)}
    params, layout = converted_params(vgg_model(), source)
    assert layout == "lpips" and sorted(params) == [
        f"conv{s}_{i}" for s in range(1, 6) for i in range(1, 4 if s > 2 else 3)
    ]
    model = model_of(lpips.MODELS["lpips-vgg16"], LpipsWeights, widths=WIDTHS)
    params, _ = converted_params(model, source)
    for index, weight in enumerate(LpipsWeights(WIDTHS).apply({"params": params})):
        np.testing.assert_array_equal(weight, source[f"lin{index}.model.1.weight"].ravel())


@pytest.mark.parametrize("shape", [(2, 3, 1, 1), (1, 3, 1, 2), (3,)])
def test_linear_weights_of_another_shape_are_refused(shape):
    model = model_of(lpips.MODELS["lpips-vgg16"], LpipsWeights, widths=WIDTHS)
    with pytest.raises(ConversionError, match=r"lin1.model.1.weight.*\[1, E, 1, 1\]"):
        converted_params(model, lpips_source() | {"lin1.model.1.weight": array(*shape)})
