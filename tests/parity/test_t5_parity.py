"""T5 encoders of both versions against transformers, layer by layer, through the converter."""

import functools

import jax
import numpy as np
import pytest
from reference import assert_close, randomised, required, state

from farsighted_jax.encoders.t5 import T5Encoder, relative_bucket
from farsighted_jax.pretrained import safetensors_file, t5
from farsighted_jax.pretrained.entry import PretrainedModel, converted_params

pytestmark = pytest.mark.parity

# Every axis has its own size: E 12, F 20, depth 4, A 3, K 5; texts are longer than the farthest bucket.
SIZES = {
    "width": 12, "ff_width": 20, "depth": 4, "num_heads": 3, "head_width": 5,
    "vocabulary": 50, "num_buckets": 8, "max_distance": 9,
}  # fmt: skip
LENGTHS = (23, 9, 1)


@functools.cache
def reference_network(gated):
    """The whole model, with its decoder and output layer, as the hub has it."""
    _, transformers = required()
    config = transformers.T5Config(
        vocab_size=SIZES["vocabulary"],
        d_model=SIZES["width"],
        d_ff=SIZES["ff_width"],
        num_layers=SIZES["depth"],
        num_heads=SIZES["num_heads"],
        d_kv=SIZES["head_width"],
        relative_attention_num_buckets=SIZES["num_buckets"],
        relative_attention_max_distance=SIZES["max_distance"],
        feed_forward_proj="gated-gelu" if gated else "relu",
        tie_word_embeddings=not gated,
    )
    return randomised(transformers.T5ForConditionalGeneration(config))


def torch_texts():
    torch, _ = required()
    token_BL, mask_BL = (torch.from_numpy(array.astype(np.int64)) for array in texts())
    return {"input_ids": token_BL, "attention_mask": mask_BL}


def entry(gated):
    return PretrainedModel(
        module=functools.partial(T5Encoder, **SIZES, gated=gated),
        inputs=(jax.ShapeDtypeStruct((1, 2), np.int32), jax.ShapeDtypeStruct((1, 2), np.bool_)),
        layouts=t5.layouts(gated),
    )


@functools.cache
def texts():
    token_BL = np.random.default_rng(0).integers(1, SIZES["vocabulary"], (len(LENGTHS), max(LENGTHS)))
    return token_BL.astype(np.int32), np.arange(max(LENGTHS)) < np.array(LENGTHS)[:, None]


def reference_layers(network):
    """Outputs of every block, and of the last norm."""
    torch, _ = required()
    kept = []

    def keep(module, inputs, output):
        kept.append((output[0] if isinstance(output, tuple) else output).detach().numpy().copy())

    hooks = [module.register_forward_hook(keep) for module in network.encoder.block]
    with torch.no_grad():
        last = network.encoder(**torch_texts()).last_hidden_state.numpy()
    for hook in hooks:
        hook.remove()
    return kept, last


@pytest.mark.parametrize("gated", [False, True])
def test_every_layer_equals_the_reference(gated, tmp_path):
    network = reference_network(gated)
    network.save_pretrained(tmp_path)
    params, layout = converted_params(entry(gated), safetensors_file.read(tmp_path))
    assert layout == "huggingface"
    run = jax.jit(functools.partial(T5Encoder(**SIZES, gated=gated).apply, mutable="intermediates"))
    found, kept = run({"params": params}, *texts())
    layers_DBLE = kept["intermediates"]["blocks"]["out"][0]
    want_layers, want = reference_layers(network)
    assert len(layers_DBLE) == len(want_layers) == SIZES["depth"]
    _, mask_BL = texts()
    for found_BLE, want_BLE in zip((*layers_DBLE, found), (*want_layers, want), strict=True):
        assert_close(np.asarray(found_BLE)[mask_BL], want_BLE[mask_BL])


@pytest.mark.parametrize("gated", [False, True])
def test_a_module_in_memory_and_an_encoder_alone_give_the_same_parameters(gated, tmp_path):
    _, transformers = required()
    network = reference_network(gated)
    alone = transformers.T5EncoderModel(network.config)
    alone.load_state_dict({k: v for k, v in network.state_dict().items() if k in alone.state_dict()})
    alone.save_pretrained(tmp_path)
    sources = [state(network), state(alone), safetensors_file.read(tmp_path)]
    first, *others = (converted_params(entry(gated), source)[0] for source in sources)
    for other in others:
        jax.tree.map(np.testing.assert_array_equal, first, other)


@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 9), (16, 32), (64, 500)])
def test_buckets_are_those_of_the_reference(num_buckets, max_distance):
    torch, _ = required()
    attention = reference_network(True).encoder.block[0].layer[0].SelfAttention
    offsets = np.arange(-2 * max_distance, 2 * max_distance + 1)
    want = attention._relative_position_bucket(
        torch.from_numpy(offsets), bidirectional=True, num_buckets=num_buckets, max_distance=max_distance
    )
    np.testing.assert_array_equal(relative_bucket(offsets, num_buckets, max_distance), want.numpy())


@pytest.mark.slow
def test_full_size_base():
    torch, transformers = required()
    torch.manual_seed(0)
    config = transformers.T5Config(d_model=768, d_ff=3072, num_layers=12, num_heads=12, d_kv=64)
    # As initialised: with larger random weights the unscaled softmax saturates and rounding errors grow.
    network = transformers.T5EncoderModel(config).eval()
    model = t5.MODELS["t5-base"]
    params, _ = converted_params(model, state(network))
    found = np.asarray(jax.jit(model.module().apply)({"params": params}, *texts()))
    with torch.no_grad():
        want = network(**torch_texts()).last_hidden_state.numpy()
    _, mask_BL = texts()
    assert_close(found[mask_BL], want[mask_BL])
