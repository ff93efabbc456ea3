"""Where weights come from: paths, the hub's cache, the hub; checksums; no network."""

import hashlib
import importlib
from pathlib import Path

import numpy as np
import pytest
from safetensors_writer import write_safetensors, write_shards

from farsighted_jax.pretrained import source
from farsighted_jax.pretrained.safetensors_file import PickleRefusedError
from farsighted_jax.pretrained.source import SourceError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ARRAYS = {"x": np.arange(3, dtype=np.float32)}
ENCODER = {"encoder": np.arange(4, dtype=np.float32)}


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache, and a hub with the files of `hub.files`, that fails where `hub.error` is set."""
    package = pytest.importorskip("huggingface_hub", reason="pip install -e '.[convert]'")
    return Hub(package, tmp_path, monkeypatch)


class Hub:
    """Stands in for huggingface_hub's download; its cache is the real one."""

    def __init__(self, package, folder, monkeypatch):
        self.errors = importlib.import_module("huggingface_hub.errors")
        self.cache = folder / "cache"
        self.repository = self.cache / "models--someone--tiny"
        self.snapshot = self.repository / "snapshots" / COMMIT
        self.remote = folder / "remote"
        self.remote.mkdir()
        self.error, self.asked = None, []
        monkeypatch.setattr(package, "hf_hub_download", self.download)

    def download(self, repository, name, *, revision, cache_dir):
        self.asked.append((repository, name, revision))
        if self.error is not None:
            raise self.error
        if not (self.remote / name).is_file():
            error = self.errors.EntryNotFoundError
            raise error.__new__(error)
        self.snapshot.mkdir(parents=True, exist_ok=True)
        (self.repository / "refs").mkdir(exist_ok=True)
        (self.repository / "refs" / revision).write_text(COMMIT)
        (self.snapshot / name).write_bytes((self.remote / name).read_bytes())
        return str(self.snapshot / name)


def sha256(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


def test_a_file_and_its_folder_are_themselves(tmp_path):
    path = tmp_path / "w.safetensors"
    write_safetensors(path, ARRAYS)
    for place in (path, tmp_path):
        found = source.located(str(place), sha256=sha256(path).upper())
        assert (found.path, found.origin, found.sha256) == (place, place.name, sha256(path))


def test_the_checksum_of_shards_is_that_of_sha256sum(tmp_path):
    index = write_shards(tmp_path / "s", {"m-1.safetensors": ARRAYS, "m-0.safetensors": ENCODER})
    names = ("m-0.safetensors", "m-1.safetensors", index.name)
    lines = "".join(f"{sha256(index.with_name(name))}  {name}\n" for name in sorted(names))
    assert source.located(str(index)).sha256 == hashlib.sha256(lines.encode()).hexdigest()


def test_a_repository_is_fetched_once(hub):
    write_safetensors(hub.remote / "model.safetensors", ARRAYS)
    first = source.located("someone/tiny", cache=hub.cache)
    assert first.origin == f"someone/tiny@{COMMIT}"
    assert first.sha256 == sha256(hub.remote / "model.safetensors")
    assert hub.asked == [("someone/tiny", "model.safetensors", "main")]
    hub.error = AssertionError("no request may be made for what is cached")
    assert source.located("someone/tiny", cache=hub.cache, sha256=first.sha256) == first
    assert source.located("someone/tiny", revision=COMMIT, cache=hub.cache) == first


def test_another_revision_is_another_request(hub):
    write_safetensors(hub.remote / "model.safetensors", ARRAYS)
    source.located("someone/tiny", cache=hub.cache)
    source.located("someone/tiny", revision="v2", cache=hub.cache)
    assert [revision for _, _, revision in hub.asked] == ["main", "v2"]


def test_shards_are_fetched_after_their_index_and_once(hub):
    write_shards(hub.remote, {"m-0.safetensors": ARRAYS, "m-1.safetensors": ENCODER})
    found = source.located("someone/tiny", cache=hub.cache)
    assert found.path == hub.snapshot / "model.safetensors.index.json"
    assert [name for _, name, _ in hub.asked] == [
        "model.safetensors", "model.safetensors.index.json", "m-0.safetensors", "m-1.safetensors"
    ]  # fmt: skip
    hub.asked.clear()
    (hub.snapshot / "m-1.safetensors").unlink()
    assert source.located("someone/tiny", cache=hub.cache) == found
    assert [name for _, name, _ in hub.asked] == ["m-1.safetensors"]


def test_an_index_whose_shard_is_not_there_is_refused(hub):
    write_shards(hub.remote, {"m-0.safetensors": ARRAYS})
    (hub.remote / "m-0.safetensors").unlink()
    with pytest.raises(SourceError, match="names m-0.safetensors, which is not there"):
        source.located("someone/tiny", cache=hub.cache)


def test_files_of_torch_alone_are_refused_with_the_way_out(hub):
    (hub.remote / "pytorch_model.bin").write_bytes(b"")
    with pytest.raises(SourceError, match="neither model.safetensors nor model.*index.json") as error:
        source.located("someone/tiny", cache=hub.cache)
    assert "hf download someone/tiny pytorch_model.bin" in str(error.value)
    assert "weights_only=True" in str(error.value)
    with pytest.raises(PickleRefusedError):
        source.located(str(hub.remote), cache=hub.cache)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("LocalEntryNotFoundError", "no connection to the hub"),
        ("RevisionNotFoundError", "RevisionNotFoundError"),
    ],
)
def test_without_the_hub_the_command_that_gets_it_is_named(hub, name, words):
    error = getattr(hub.errors, name)
    hub.error = error.__new__(error)
    with pytest.raises(SourceError, match=words) as raised:
        source.located("someone/tiny", revision="v2", file="other.safetensors", cache=hub.cache)
    assert "hf download someone/tiny other.safetensors --revision v2" in str(raised.value)


def test_other_weights_than_asked_for_are_refused(hub):
    write_safetensors(hub.remote / "model.safetensors", ARRAYS)
    with pytest.raises(SourceError, match="expected 00ff") as error:
        source.located("someone/tiny", sha256="00FF", cache=hub.cache)
    assert sha256(hub.remote / "model.safetensors") in str(error.value)
    assert "model.safetensors --revision main --force-download" in str(error.value)


def test_what_is_no_place_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no such file or folder, and not the owner/name"):
        source.located(str(tmp_path / "absent.safetensors"))
    write_safetensors(tmp_path / "w.safetensors", ARRAYS)
    with pytest.raises(SourceError, match="a path has no revision, found 'v2'"):
        source.located(str(tmp_path), revision="v2")
