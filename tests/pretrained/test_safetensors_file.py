"""Safetensors are read exactly, damaged ones are refused, pickles always."""

import json
import pickle
import subprocess
import sys

import ml_dtypes
import numpy as np
import pytest
from safetensors_writer import header_of, write_safetensors, write_shards

from farsighted_jax.pretrained import safetensors_file
from farsighted_jax.pretrained.safetensors_file import PickleRefusedError, WeightsFileError


@pytest.fixture
def arrays():
    rng = np.random.default_rng(0)
    return {
        "a.weight": rng.normal(size=(2, 3)).astype(np.float32),
        "flag": np.array([True, False, True]),
        # After three bytes: what follows is not aligned.
        "b.weight": rng.normal(size=(4, 1, 2)).astype(ml_dtypes.bfloat16),
        "half": rng.normal(size=(5,)).astype(np.float16),
        "count": np.array(7, np.int64),
        "empty": np.zeros((0, 3), np.float32),
    }


def assert_same(found, want):
    assert found.keys() == want.keys()
    for name, array in want.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(found[name], array)


def test_arrays_come_back_bit_for_bit(tmp_path, arrays):
    write_safetensors(tmp_path / "w.safetensors", arrays)
    for source in (tmp_path, tmp_path / "w.safetensors"):
        assert_same(safetensors_file.read(source), arrays)


def test_the_reference_writer_is_understood(tmp_path, arrays):
    package = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[convert]'")
    package.save_file(arrays, tmp_path / "model.safetensors", metadata={"format": "np"})
    assert_same(safetensors_file.read(tmp_path), arrays)


def test_our_writer_is_understood_by_the_reference(tmp_path, arrays):
    package = pytest.importorskip("safetensors.numpy", reason="pip install -e '.[convert]'")
    del arrays["b.weight"]  # Their reader for numpy wants it aligned.
    write_safetensors(tmp_path / "model.safetensors", arrays)
    assert_same(package.load_file(tmp_path / "model.safetensors"), arrays)


def test_shards_are_read_through_their_index(tmp_path, arrays):
    names = list(arrays)
    parts = {f"m-{i}.safetensors": {n: arrays[n] for n in names[i::2]} for i in range(2)}
    index = write_shards(tmp_path, parts)
    (tmp_path / "other.safetensors").write_bytes(b"not part of it")
    for source in (index, tmp_path):
        assert_same(safetensors_file.read(source), arrays)
    assert safetensors_file.files(tmp_path) == [index, *(tmp_path / name for name in parts)]


ONE = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.ones(2, np.float32)}


def changed(name, **entries):
    header = header_of(ONE)
    header[name] |= entries
    return header


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (changed("x", dtype="F8"), "'x' has dtype 'F8', expected one of F64"),
        (changed("x", shape=[2, 4]), r"'x', F32\[2, 4\], needs 32 bytes, its range has 24"),
        (changed("x", shape=[2, -3]), "'x' has no usable header line"),
        (changed("x", shape=[2, 3.0]), "'x' has no usable header line"),
        (changed("x", shape=[2**63, 2**63]), "needs .* bytes, its range has 24"),
        (changed("y", data_offsets=[16, 24]), "'y' begins at byte 16, expected 24"),
        (changed("y", data_offsets=[28, 36]), "'y' begins at byte 28, expected 24"),
        (changed("y", data_offsets=[24, 20]), "'y', .*needs 8 bytes"),
        (changed("y", data_offsets=[24]), "'y' has no usable header line"),
        ({"x": header_of(ONE)["x"]}, "describes 24 bytes of data, the file has 32"),
        ({**header_of(ONE), "z": 3}, "'z' has no usable header line: 3"),
        ("[1]", "the header is a list, expected an object"),
        ('{"x": ', "the header is not JSON"),
        ("[" * 100_000, "the header is not JSON"),
        ('{"x": {}, "x": {}}', "names a tensor twice"),
    ],
)
def test_a_wrong_header_is_refused_before_an_array_is_made(tmp_path, header, words):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, ONE, header)
    with pytest.raises(WeightsFileError, match=words) as error:
        safetensors_file.read(path)
    assert str(path) in str(error.value)


def test_no_truncation_and_no_excess_passes(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, ONE)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsFileError, match="w.safetensors"):
            safetensors_file.read(path)
    path.write_bytes(content + b"x")
    with pytest.raises(WeightsFileError, match="33"):
        safetensors_file.read(path)


class Canary:
    """Unpickling it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


@pytest.mark.parametrize("suffix", [".pt", ".bin", ".pth", ".ckpt", ".PT"])
def test_a_pickle_is_never_read_and_the_way_out_is_named(tmp_path, suffix):
    path, canary = tmp_path / f"weights{suffix}", tmp_path / "canary"
    path.write_bytes(pickle.dumps(Canary(canary)))
    for source in (path, tmp_path) if suffix != ".PT" else (path,):
        with pytest.raises(PickleRefusedError, match="weights_only=True") as error:
            safetensors_file.read(source)
        assert str(path) in str(error.value) and "weights.safetensors" in str(error.value)
    assert not canary.exists()


def test_a_pickle_under_another_name_is_no_safetensors_file(tmp_path):
    path, canary = tmp_path / "weights.safetensors", tmp_path / "canary"
    path.write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(WeightsFileError, match="no safetensors file"):
        safetensors_file.read(path)
    assert not canary.exists()


@pytest.mark.parity
def test_the_command_that_converts_is_right(tmp_path):
    """What the refusal says, run: it gives a file that can be read."""
    torch = pytest.importorskip("torch", reason="pip install -e '.[parity]'")
    pytest.importorskip("safetensors.torch", reason="pip install -e '.[convert]'")
    path = tmp_path / "weights.pt"
    weight = torch.arange(6.0).reshape(2, 3)
    # Shared memory and a transposed view: safetensors alone would refuse both.
    torch.save({"a": weight, "b": weight.T, "c": weight}, path)
    text = safetensors_file.refusal(path)
    code = text[text.index('"') + 1 : text.rindex('"')]
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    found = safetensors_file.read(path.with_suffix(".safetensors"))
    np.testing.assert_array_equal(found["b"], weight.numpy().T)
    assert found.keys() == {"a", "b", "c"}


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(WeightsFileError, match="absent.safetensors: no such file"):
        safetensors_file.read(tmp_path / "absent.safetensors")
    with pytest.raises(WeightsFileError, match=r"holds no \.safetensors file"):
        safetensors_file.read(tmp_path)
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(WeightsFileError, match=r"expected a \.safetensors or"):
        safetensors_file.read(tmp_path / "notes.txt")
    for name in ("a", "b"):
        write_safetensors(tmp_path / f"{name}.safetensors", ONE)
    with pytest.raises(WeightsFileError, match=r"which of \['a.safetensors', 'b.safetensors'\]"):
        safetensors_file.read(tmp_path)


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"x": "m-0.safetensors", "y": "m-2.safetensors"}, r"\['m-2.safetensors'\] are not beside it"),
        ({"x": "m-0.safetensors", "y": "m-0.safetensors"}, "y: found in no shard, expected in m-0"),
        ({"x": "../m-0.safetensors"}, "no name of a .safetensors file beside it"),
        ({"x": "m-0.bin"}, "no name of a .safetensors file beside it"),
        ({"x": 3}, "no name of a .safetensors file beside it"),
        (["x"], "expected a JSON object with a weight_map"),
    ],
)
def test_a_wrong_index_is_refused(tmp_path, weight_map, words):
    shards = {f"m-{i}.safetensors": {name: ONE[name]} for i, name in enumerate(ONE)}
    index = write_shards(tmp_path, shards, weight_map)
    with pytest.raises(WeightsFileError, match=words):
        safetensors_file.read(index)


def test_a_tensor_in_two_shards_is_refused(tmp_path):
    index = write_shards(tmp_path, {"m-0.safetensors": ONE, "m-1.safetensors": {"x": ONE["x"]}})
    index.write_text(json.dumps({"weight_map": {"x": "m-0.safetensors", "y": "m-1.safetensors"}}))
    with pytest.raises(WeightsFileError, match=r"m-1.safetensors: 'x' stands in m-0.safetensors too"):
        safetensors_file.read(tmp_path)


def test_a_tensor_that_the_index_leaves_out_is_refused(tmp_path):
    write_shards(tmp_path, {"m-0.safetensors": ONE}, {"x": "m-0.safetensors"})
    with pytest.raises(WeightsFileError, match="y: found in m-0.safetensors, expected in no shard"):
        safetensors_file.read(tmp_path)
