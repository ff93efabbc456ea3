"""Our encoder against numbers of the authors' published one.

Takes any file of the same layout: pytest tests/lam/test_reference.py --golden PATH
"""

import jax
import numpy as np
import pytest

from farsighted_jax.core import tree
from farsighted_jax.lam.encoder import SpaceTimeEncoder
from farsighted_jax.layers.vector_quantizer import nearest_code
from farsighted_jax.pretrained import flam
from farsighted_jax.pretrained.rename import ConversionError, converted


@pytest.fixture(scope="module")
def reference(request, golden_path):
    path = golden_path or request.getfixturevalue("shared_dir") / "golden" / "flam_encoder.npz"
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    sections = {"param": {}, "in": {}, "out": {}, "cfg": {}}
    for name, array in arrays.items():
        section, _, rest = name.partition("/")
        sections[section][rest] = array
    return sections


@pytest.fixture(scope="module")
def encoder(reference):
    config = {name: int(value) for name, value in reference["cfg"].items()}
    module = SpaceTimeEncoder(
        width=config["model_dim"],
        depth=config["enc_blocks"],
        num_heads=config["num_heads"],
        num_slots=config["action_num_codes"],
        code_width=config["latent_dim"],
        positions="index",
        exact_gelu=True,
    )
    tokens_BTNE = reference["in"]["dino_features"]
    B, T, N, _ = tokens_BTNE.shape
    time_s_BT = np.broadcast_to(np.arange(T, dtype=np.float32), (B, T))
    return module, tokens_BTNE, time_s_BT, (1, N), (config["num_latents"], config["latent_dim"])


def expected_shapes(encoder):
    module, tokens, time_s, grid, codebook_shape = encoder
    init = lambda key: module.init(key, tokens, time_s, grid)  # noqa: E731
    abstract = jax.eval_shape(init, jax.random.key(0))["params"]
    shapes = {path: leaf.shape for path, leaf in tree.flat_paths(abstract).items()}
    return shapes | {flam.CODEBOOK: codebook_shape}


@pytest.fixture(scope="module")
def weights(reference, encoder):
    return converted(reference["param"], flam.RULES, expected_shapes(encoder))


@pytest.fixture(scope="module")
def encoded(weights, encoder):
    module, tokens, time_s, grid, _ = encoder
    params = tree.nested({path: array for path, array in weights.items() if path != flam.CODEBOOK})
    return np.asarray(module.apply({"params": params}, tokens, time_s, grid))


def test_encoded_equals_the_reference(reference, encoded):
    want = reference["out"]["encoded"]
    assert encoded.shape == want.shape
    assert np.abs(encoded - want).max() <= 1e-5 * np.abs(want).max()


def test_codes_equal_the_reference(reference, encoded, weights):
    code, quantized = nearest_code(encoded, weights[flam.CODEBOOK])
    np.testing.assert_array_equal(code, reference["out"]["indices"])
    want = reference["out"]["z_q"]
    assert np.abs(np.asarray(quantized) - want).max() <= 1e-5 * np.abs(want).max()


def test_the_table_is_strict_both_ways(reference, encoder):
    shapes = expected_shapes(encoder)
    source = dict(reference["param"])
    moved = source.pop("to_codebook.bias")
    source["to_codebook.offset"] = moved
    with pytest.raises(ConversionError) as error:
        converted(source, flam.RULES, shapes)
    assert "to_codebook.offset: no rule" in str(error.value)
    assert "to_code/bias: expected" in str(error.value)
