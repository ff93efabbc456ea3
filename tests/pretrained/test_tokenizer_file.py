"""A tokenizer that comes along with the weights of a text model."""

import argparse

import pytest
from tiny_tokenizer import write_tokenizer

from data_pipelines.errors import TokenizerError
from data_pipelines.language.instructions import tokenizer_for
from farsighted_jax.checkpoint.manifest import CorruptCheckpointError
from farsighted_jax.cli import convert
from farsighted_jax.pretrained import folder, source, t5
from farsighted_jax.pretrained.folder import PretrainedFolderError
from farsighted_jax.pretrained.models import MODELS
from farsighted_jax.pretrained.source import SourceError, located


@pytest.fixture
def tokenizer_file(tmp_path):
    return write_tokenizer(tmp_path / "tokenizer.json")


def test_it_stands_in_the_folder_listed_and_read_by_name(
    models, weights_file, tokenizer_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("FARSIGHTED_CACHE", str(tmp_path / "cache"))
    out = folder.default_folder("tiny")
    about = folder.convert("tiny", located(str(weights_file)), out, tokenizer=tokenizer_file, models=models)
    assert (out / "tokenizer.json").read_bytes() == tokenizer_file.read_bytes()
    assert tokenizer_for("tiny").digest == about["tokenizer_sha256"]
    assert folder.load("tiny", models=models).about == about
    (out / "tokenizer.json").write_text((out / "tokenizer.json").read_text().replace("ange", "inge"))
    with pytest.raises(TokenizerError, match="as in manifest.json"):
        tokenizer_for("tiny")
    with pytest.raises(CorruptCheckpointError, match="tokenizer.json"):
        folder.load("tiny", models=models)


def test_converting_again_keeps_it_and_another_is_refused(models, weights_file, tokenizer_file, tmp_path):
    place, out = located(str(weights_file)), tmp_path / "out"
    about = folder.convert("tiny", place, out, tokenizer=tokenizer_file, models=models)
    assert folder.convert("tiny", place, out, models=models) == about
    assert folder.convert("tiny", place, out, tokenizer=tokenizer_file, models=models) == about
    tokenizer_file.write_text("{}")
    with pytest.raises(PretrainedFolderError, match="there already, with other content"):
        folder.convert("tiny", place, out, tokenizer=tokenizer_file, models=models)


def test_it_is_found_beside_the_weights_or_said_to_be_absent(tmp_path):
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"")
    entry = MODELS["t5-small"]
    flags = argparse.Namespace(tokenizer=None, revision="")
    found, absence = convert.tokenizer_of(entry, str(weights), flags)
    assert found is None and "no tokenizer.json beside the weights" in absence and "--tokenizer" in absence
    path = write_tokenizer(tmp_path / "tokenizer.json")
    for place in (weights, tmp_path):
        assert convert.tokenizer_of(entry, str(place), flags) == (path, "")
    image_model = MODELS["dinov2-vitb14"]
    assert convert.tokenizer_of(image_model, str(weights), flags) == (None, "")


def test_a_file_that_was_asked_for_must_be_there(tmp_path):
    with pytest.raises(SourceError, match="nowhere.json: no such file"):
        flags = argparse.Namespace(tokenizer=str(tmp_path / "nowhere.json"), revision="")
        convert.tokenizer_of(MODELS["t5-small"], "w", flags)


def test_a_repository_is_asked_first_and_then_the_one_that_has_it(monkeypatch, tmp_path):
    asked, there = [], {"google-t5/t5-base": tmp_path / "tokenizer.json"}

    def fetched(repository, revision, name, cache):
        asked.append((repository, revision, name))
        return there.get(repository)

    monkeypatch.setattr(source, "_cached", lambda *place: None)
    monkeypatch.setattr(source, "_fetched", fetched)
    entry = MODELS["t5-v1_1-small"]
    flags = argparse.Namespace(tokenizer=None, revision="abc")
    found, absence = convert.tokenizer_of(entry, entry.repository, flags)
    assert (found, absence) == (there["google-t5/t5-base"], "")
    assert asked == [
        ("google/t5-v1_1-small", "abc", "tokenizer.json"),
        ("google-t5/t5-base", "main", "tokenizer.json"),
    ]


def test_a_hub_out_of_reach_leaves_the_weights_usable_and_says_so(monkeypatch):
    def unreachable(*place):
        raise SourceError("no connection to the hub")

    monkeypatch.setattr(source, "_cached", lambda *place: None)
    monkeypatch.setattr(source, "_fetched", unreachable)
    flags = argparse.Namespace(tokenizer=None, revision="")
    found, absence = convert.tokenizer_of(MODELS["t5-small"], "google-t5/t5-small", flags)
    assert found is None and "no connection to the hub" in absence


def test_every_t5_has_a_tokenizer_and_no_other_model():
    with_tokenizer = {name for name, entry in MODELS.items() if entry.tokenizer}
    assert with_tokenizer == set(t5.MODELS)
    assert {entry.tokenizer_repository for entry in t5.MODELS.values()} == {"google-t5/t5-base"}
