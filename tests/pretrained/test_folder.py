"""Converted weights on disk: written whole, read verified, named."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hub_weights import torch_hub_weights
from safetensors_writer import write_safetensors

from farsighted_jax.checkpoint.digest import content_digests, tree_digest
from farsighted_jax.checkpoint.manifest import CorruptCheckpointError
from farsighted_jax.cli import main as command
from farsighted_jax.pretrained import folder
from farsighted_jax.pretrained import models as table
from farsighted_jax.pretrained.entry import converted_params
from farsighted_jax.pretrained.folder import PretrainedFolderError
from farsighted_jax.pretrained.rename import ConversionError
from farsighted_jax.pretrained.source import located


@pytest.fixture(scope="module")
def made(models, weights_file, tmp_path_factory):
    """(folder, about) of converted weights."""
    out = tmp_path_factory.mktemp("converted") / "tiny"
    return out, folder.convert("tiny", located(str(weights_file)), out, models=models)


@pytest.fixture
def copy(made, tmp_path):
    """A copy of the folder, to damage."""
    return shutil.copytree(made[0], tmp_path / "copy")


def test_what_is_read_is_what_was_converted(models, made):
    loaded = folder.load(made[0], models=models)
    want, _ = converted_params(models["tiny"], torch_hub_weights())
    jax.tree.map(np.testing.assert_array_equal, loaded.params, want)
    assert loaded.about == made[1]


def test_the_folder_names_model_source_and_checksum(made, weights_file, models):
    about = made[1]
    assert (about["model"], about["layout"], about["source"]) == ("tiny", "torch_hub", weights_file.name)
    assert about["sha256"] == located(str(weights_file)).sha256
    assert str(weights_file.parent) not in (made[0] / "manifest.json").read_text()
    digests = content_digests(folder.load(made[0], models=models).params)
    assert about["digest"] == tree_digest(digests)


def test_bfloat16_is_half_the_size_and_rounds(models, made, weights_file, tmp_path):
    about = folder.convert(
        "tiny", located(str(weights_file)), tmp_path / "b", dtype="bfloat16", models=models
    )
    stored = folder.load(tmp_path / "b", models=models).params
    cast = folder.load(made[0], dtype=jnp.bfloat16, models=models).params
    assert about["dtype"] == "bfloat16"
    jax.tree.map(np.testing.assert_array_equal, stored, cast)
    with pytest.raises(PretrainedFolderError, match="'float8': expected one of float32, bfloat16"):
        folder.convert("tiny", located(str(weights_file)), tmp_path / "c", dtype="float8", models=models)


def test_arrays_take_the_given_sharding(models, made):
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,), devices=jax.devices()[:2])
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params = folder.load(made[0], sharding=sharding, models=models).params
    assert {leaf.sharding for leaf in jax.tree.leaves(params)} == {sharding}


def test_converting_again_changes_nothing_and_other_content_is_refused(models, made, weights_file, tmp_path):
    out, about = made
    before = (out / "manifest.json").stat().st_mtime_ns
    assert folder.convert("tiny", located(str(weights_file)), out, models=models) == about
    assert (out / "manifest.json").stat().st_mtime_ns == before
    write_safetensors(tmp_path / "other.safetensors", torch_hub_weights(seed=1))
    with pytest.raises(PretrainedFolderError, match="there already, with other content"):
        folder.convert("tiny", located(str(tmp_path)), out, models=models)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "mine.txt").write_text("keep")
    with pytest.raises(PretrainedFolderError, match="there already"):
        folder.convert("tiny", located(str(weights_file)), tmp_path / "notes", models=models)
    assert (tmp_path / "notes" / "mine.txt").read_text() == "keep"


def test_weights_that_do_not_fit_leave_no_folder(models, tmp_path):
    weights = torch_hub_weights()
    weights["surplus"] = weights.pop("norm.bias")
    write_safetensors(tmp_path / "w.safetensors", weights)
    with pytest.raises(ConversionError) as error:
        folder.convert("tiny", located(str(tmp_path)), tmp_path / "out", models=models)
    assert "surplus: no rule" in str(error.value) and "norm/bias: expected (4,)" in str(error.value)
    assert not (tmp_path / "out").exists()


def test_every_damaged_file_is_named(models, copy):
    files = [path for path in sorted(copy.rglob("*")) if path.is_file()]
    assert len(files) > 3
    for path in files:
        content = path.read_bytes()
        if not content:
            continue
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 16]) + content[middle + 1 :])
        with pytest.raises(CorruptCheckpointError, match=path.name):
            folder.load(copy, models=models)
        path.write_bytes(content)
    folder.load(copy, models=models)


def test_absent_weights_name_the_command_that_gets_them(models, tmp_path, monkeypatch):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path))
    with pytest.raises(PretrainedFolderError, match="no converted weights there") as error:
        folder.load("tiny", models=models)
    out = tmp_path / "pretrained" / "tiny"
    assert f"farsighted convert --model tiny --source someone/tiny --out {out}" in str(error.value)
    with pytest.raises(PretrainedFolderError, match="--model MODEL --source FILE"):
        folder.load(tmp_path / "elsewhere", models=models)


def test_weights_of_another_model_are_refused(models, made, copy):
    with pytest.raises(PretrainedFolderError, match="holds tiny, expected large"):
        folder.load(made[0], model="large", models={**models, "large": models["tiny"]})
    with pytest.raises(PretrainedFolderError, match=r"holds tiny, expected one of \['large'\]"):
        folder.load(made[0], models={"large": models["tiny"]})


def test_the_command_converts_and_weights_are_found_by_name(
    models, made, weights_file, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path))
    monkeypatch.setattr(table, "MODELS", models)
    arguments = ["convert", "--model", "tiny", "--source", str(weights_file)]
    assert command.main([*arguments, "--sha256", made[1]["sha256"]]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == {"folder": str(tmp_path / "pretrained" / "tiny"), **made[1]}
    assert folder.load("tiny", models=models).about == made[1]
    assert command.main([*arguments, "--sha256", "0" * 64]) == 1
    assert f"expected {'0' * 64}" in capsys.readouterr().err
    (tmp_path / "weights.pth").write_bytes(b"")
    assert command.main([*arguments[:3], "--source", str(tmp_path / "weights.pth")]) == 1
    assert "weights.pth: files of torch are pickles" in capsys.readouterr().err
    assert command.main(["convert", "--model", "tyni"]) == 1
    assert "did you mean 'tiny'" in capsys.readouterr().err
    assert command.main(["convert", "--list"]) == 0
    assert "someone/tiny" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        command.main(["convert"])
    assert ended.value.code == 2
