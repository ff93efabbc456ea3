"""Where a release is: the forms of its name, copies kept on this machine; no network."""

import importlib
import os

import numpy as np
import pytest
import remote_folder
from checkpoint_items import items_of

from farsighted_jax.checkpoint import manifest, release, restore
from farsighted_jax.checkpoint.release import ReleaseError
from farsighted_jax.serving.download import local_folder


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a release, and its URI."""
    root = tmp_path_factory.mktemp("store")
    release.write(
        root / "small",
        kind="lam",
        step=1,
        version="0.0",
        items={"params": items_of(1)["params"]},
        documents={"config.json": {}},
        example={"x": np.zeros(2)},
        card="card",
    )
    return root, remote_folder.register(str(root)) + "small"


@pytest.mark.parametrize(
    ("place", "asked"),
    [
        ("hf://someone/tiny-1.0", ("someone/tiny-1.0", None)),
        ("hf://someone/tiny@v1.2", ("someone/tiny", "v1.2")),
        ("hf://a/b@refs/pr/3", ("a/b", "refs/pr/3")),
    ],
)
def test_a_repository_is_asked_for(place, asked, tmp_path):
    requests = []

    def fetch(repository, revision):
        requests.append((repository, revision))
        return str(tmp_path)

    assert local_folder(place, fetch=fetch) == tmp_path
    assert requests == [asked]


@pytest.mark.parametrize("place", ["hf://tiny", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/b@x y"])
def test_other_forms_are_refused(place):
    with pytest.raises(ReleaseError, match="hf://owner/name@revision"):
        local_folder(place, fetch=lambda *asked: pytest.fail("nothing may be asked for"))


def test_a_hub_that_cannot_be_reached_has_a_way_round(monkeypatch):
    hub = pytest.importorskip("huggingface_hub", reason="pip install -e '.[convert]'")
    asked = {}

    def fail(repository, **options):
        asked[repository] = options
        raise importlib.import_module("huggingface_hub.errors").LocalEntryNotFoundError("offline\nmore")

    monkeypatch.setattr(hub, "snapshot_download", fail)
    with pytest.raises(ReleaseError, match="offline.*hf download a/b --revision main"):
        local_folder("hf://a/b")
    assert asked == {"a/b": {"revision": None, "ignore_patterns": ["model*.safetensors*"]}}


def test_a_folder_is_itself_and_none_is_an_error(tmp_path):
    assert local_folder(tmp_path) == tmp_path
    with pytest.raises(ReleaseError, match="absent: no such folder"):
        local_folder(tmp_path / "absent")


def test_a_snapshot_of_links_is_read(store, tmp_path):
    """The hub's cache holds links to files that are named by their content."""
    source = store[0] / "small"
    for number, path in enumerate(path for path in source.rglob("*") if path.is_file()):
        link = tmp_path / "snapshot" / path.relative_to(source)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob = tmp_path / f"blob{number}"
        blob.write_bytes(path.read_bytes())
        link.symlink_to(os.path.relpath(blob, link.parent))
    folder = local_folder("hf://a/b", fetch=lambda *asked: tmp_path / "snapshot")
    assert release.read(folder).digest == release.read(source).digest
    assert set(restore.read_weights(folder)[1]["params"]) == {"dense"}


def test_a_remote_release_is_copied_once(store, tmp_path, monkeypatch):
    source, uri = store[0] / "small", store[1]
    folder = local_folder(uri, cache=tmp_path)
    assert folder.parent == tmp_path and folder.name.startswith("small-")
    assert release.read(folder).digest == release.read(source).digest
    assert not (folder / "model.safetensors").exists()
    monkeypatch.setattr("farsighted_jax.serving.download._copy", lambda *args: pytest.fail("copied again"))
    assert local_folder(uri + "/", cache=tmp_path) == folder
    assert local_folder(uri, cache=tmp_path) == folder
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]


def test_a_copy_that_breaks_off_leaves_nothing(store, tmp_path, monkeypatch):
    def fail(remote, partial, name):
        raise OSError("connection lost")

    monkeypatch.setattr("farsighted_jax.serving.download._copy", fail)
    with pytest.raises(ReleaseError, match="small: could not be copied .*connection lost"):
        local_folder(store[1], cache=tmp_path)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ReleaseError, match="absent: no release there"):
        local_folder(store[1].replace("small", "absent"), cache=tmp_path)


def test_a_manifest_writes_nothing_outside(store, tmp_path):
    evil = store[0] / "evil"
    evil.mkdir()
    (evil / "x").write_text("x")
    manifest.write(evil, {})
    body = manifest.read(evil)
    body["files"] = {"../../outside": body["files"]["x"]}
    (evil / manifest.NAME).write_text(manifest._text(body))
    with pytest.raises(ReleaseError, match="outside of the release"):
        local_folder(store[1].replace("small", "evil"), cache=tmp_path / "cache")
    assert not (tmp_path / "outside").exists()
