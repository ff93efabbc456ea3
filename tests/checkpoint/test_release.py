"""Release folders: complete or absent, verified, readable by others, without a trace of the machine."""

import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from checkpoint_items import items_of

from farsighted_jax.checkpoint import manifest, release, restore, safetensors_shards
from farsighted_jax.checkpoint.digest import content_digests
from farsighted_jax.checkpoint.manifest import CorruptCheckpointError
from farsighted_jax.checkpoint.release import ReleaseError
from farsighted_jax.pretrained import safetensors_file

pytest.importorskip("safetensors", reason="pip install -e '.[convert]'")

EXAMPLE = {"x": np.arange(6, dtype=np.uint8).reshape(2, 3), "text": np.array("pick up")}


def parts(**changes):
    items = items_of(3)
    half = {"lam": {"kernel": jnp.arange(5, dtype=jnp.bfloat16) / 3, "count": jnp.int32(4)}}
    params = items["params"] | {"pretrained": half}
    return {
        "kind": "lam",
        "step": 7,
        "version": "0.0",
        "items": {"params": params, "model_state": items["model_state"], "empty": {}},
        "documents": {"config.json": {"seed": 1}, "statistics.json": {"a": [1.5]}},
        "example": EXAMPLE,
        "card": "# card\n",
    } | changes


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return release.write(tmp_path_factory.mktemp("releases") / "small", **parts())


@pytest.fixture
def copy(written, tmp_path):
    """A copy, to damage."""
    return shutil.copytree(written.folder, tmp_path / "copy")


def test_what_is_read_is_what_was_written(copy):
    found = release.read(copy)
    assert (found.kind, found.step, found.document("config.json")) == ("lam", 7, {"seed": 1})
    assert found.has("README.md") and not found.has("lam.json")
    for name, array in found.example().items():
        np.testing.assert_array_equal(array, EXAMPLE[name])
    step, weights = restore.read_weights(copy, average=True)
    assert step == 7
    for name in ("params", "model_state"):
        assert content_digests(weights[name]) == content_digests(parts()["items"][name])


def test_safetensors_hold_the_same_arrays(written):
    arrays = safetensors_file.read(written.folder)
    assert str(arrays["params/pretrained/lam/kernel"].dtype) == "bfloat16"
    assert content_digests(arrays) == {
        f"{name}/{path}": value
        for name, item in written.body["digests"].items()
        for path, value in item.items()
    }


def test_large_weights_are_cut_into_files_with_an_index(tmp_path):
    arrays = {f"a{i}": np.full((10, i + 1), i, np.float32) for i in range(4)}
    files = safetensors_shards.write(tmp_path, arrays, max_bytes=130)
    names = [f"model-0000{i}-of-00003.safetensors" for i in (1, 2, 3)]
    assert [path.name for path in files] == [*names, "model.safetensors.index.json"]
    index = json.loads(files[-1].read_text())
    assert index["metadata"]["total_size"] == sum(array.nbytes for array in arrays.values())
    assert index["weight_map"] == {"a0": names[0], "a1": names[0], "a2": names[1], "a3": names[2]}
    for name, array in safetensors_file.read(tmp_path).items():
        np.testing.assert_array_equal(array, arrays[name])


def test_nothing_is_written_over_and_nothing_half_written_stays(written, tmp_path, monkeypatch):
    with pytest.raises(ReleaseError, match="small: there already"):
        release.write(written.folder, **parts())
    with pytest.raises(ReleaseError, match="kind 'robot'"):
        release.write(tmp_path / "r", **parts(kind="robot"))
    monkeypatch.setattr(manifest, "write", lambda *args: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        release.write(tmp_path / "r", **parts())
    assert list(tmp_path.iterdir()) == []


def test_a_cut_off_write_is_no_release(written, copy):
    (copy / manifest.NAME).unlink()
    with pytest.raises(ReleaseError, match="copy: no release"):
        release.read(copy)
    assert release.found(copy) is None


@pytest.mark.parametrize("name", ["config.json", "statistics.json", "example.npz", "manifest.json"])
def test_a_damaged_document_is_named(copy, name):
    path = copy / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=name):
        release.read(copy)


def test_damaged_arrays_are_named(copy):
    path = max((copy / "params").rglob("*"), key=lambda path: path.stat().st_size * path.is_file())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpointError, match=str(path.relative_to(copy))):
        restore.read_weights(copy)


def test_cards_are_edited_and_hubs_add_files(copy):
    (copy / "README.md").write_text("a better card")
    (copy / ".gitattributes").write_text("*.safetensors lfs")
    (copy / "model.safetensors").unlink()
    assert release.read(copy).step == restore.read_weights(copy)[0]
    (copy / "stray.json").write_text("{}")
    with pytest.raises(CorruptCheckpointError, match=r"stray\.json: not in the manifest"):
        release.read(copy)


def test_another_format_and_another_folder_are_refused(copy):
    body = manifest.read(copy)
    body["release"]["format"] = 2
    manifest.write(copy, {key: value for key, value in body.items() if key != "files"})
    with pytest.raises(ReleaseError, match="format 2 .* reads formats 1 to 1"):
        release.read(copy)
    manifest.write(copy, {"pretrained": {}})
    with pytest.raises(ReleaseError, match="something else"):
        release.read(copy)


def test_a_release_has_one_step(written):
    with pytest.raises(restore.NoCheckpointError, match=r"step 8; complete steps: \[7\]"):
        restore.read_weights(written.folder, step=8)


def test_no_place_of_the_machine_stands_in_a_release(written):
    machine = str(written.folder.parent)
    for path in written.folder.rglob("*"):
        if path.is_file():
            assert machine.encode() not in path.read_bytes(), path
    values = {"dir": "/" + "data/rlds/", "uri": "gs://b/set", "n": ("~/x", "runs/lam", 2), "t": "bytes"}
    assert release.without_places(values) == {
        "dir": "rlds", "uri": "set", "n": ["x", "runs/lam", 2], "t": "bytes",
    }  # fmt: skip


def test_a_release_is_read_onto_a_mesh(written):
    mesh = jax.make_mesh((2,), ("data",), devices=jax.devices()[:2])
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    _, weights = restore.read_weights(written.folder, sharding=everywhere)
    assert all(leaf.sharding == everywhere for leaf in jax.tree.leaves(weights))
