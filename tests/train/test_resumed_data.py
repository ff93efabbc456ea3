"""What of the data may change when a run goes on: the batches to come, never those that were used."""

import dataclasses
import json

import pytest
import toy_task

from farsighted_jax.checkpoint import manifest, restore
from farsighted_jax.train import resume

FIRST = [0, {"b": 0.75, "a": 0.25}]


@dataclasses.dataclass
class Stream:
    fingerprints: dict
    schedule: list
    names: tuple = ("b", "a")
    statistics: dict = dataclasses.field(default_factory=dict)
    fingerprint: str = "all"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A checkpoint's documents as JSON gives them back, and its folder."""

    def write(stream, **changes):
        document = json.loads(json.dumps(resume.data_document(stream) | changes, sort_keys=True))
        documents = {"data": document, "statistics": {}}
        monkeypatch.setattr(restore, "read_document", lambda folder, name: documents[name])
        return tmp_path / "6"

    return write


def test_later_weights_and_further_datasets_are_allowed(written):
    folder = written(Stream({"a": "1", "b": "2"}, [FIRST]))
    # Weights that are the same to the digits that count.
    rounded = [0, {"b": 0.75 + 1e-12, "a": 0.25}]
    after = [rounded, [6, {"c": 0.5, "a": 0.5}]]
    resume.check_data(folder, Stream({"a": "1", "b": "2", "c": "3"}, after, ("b", "a", "c")))


@pytest.mark.parametrize(
    ("fingerprints", "schedule", "match"),
    [
        ({"a": "1", "b": "9"}, [FIRST], "fingerprint.b: '2' -> '9'"),
        ({"a": "1"}, [FIRST], "fingerprint.b: '2' -> 'absent'"),
        ({"a": "1", "b": "2"}, [[0, {"b": 0.7, "a": 0.3}]], "schedule"),
        ({"a": "1", "b": "2"}, [FIRST, [5, {"a": 1.0}]], "schedule"),
    ],
)
def test_what_was_used_may_not_change(written, fingerprints, schedule, match):
    folder = written(Stream({"a": "1", "b": "2"}, [FIRST]))
    with pytest.raises(resume.ResumeError, match=f"the data changed since this checkpoint:\n.*{match}"):
        resume.check_data(folder, Stream(fingerprints, schedule))


def test_a_checkpoint_with_one_fingerprint_for_all_is_compared_by_it(written, monkeypatch):
    stream = toy_task.ToyStream()
    before = resume.data_document(stream)
    folder = written(stream)
    old = {name: before[name] for name in ("fingerprint", "schedule")}
    monkeypatch.setattr(restore, "read_document", lambda folder, name: old if name == "data" else {})
    resume.check_data(folder, stream)
    with pytest.raises(resume.ResumeError, match="fingerprint: 'toy-1' -> 'toy-2'"):
        resume.check_data(folder, toy_task.ToyStream(fingerprint="toy-2"))


def test_documents_are_those_of_the_newest_step_that_can_be_read(tmp_path, monkeypatch):
    def read(folder, name):
        if folder.name == "9":
            raise manifest.CorruptCheckpointError("9")
        return {"step": folder.name}

    monkeypatch.setattr(restore, "read_document", read)
    monkeypatch.setattr(manifest, "complete_steps", lambda folder: [2, 6, 9])
    assert resume.earlier_data(tmp_path) == (6, {"step": "6"})
    monkeypatch.setattr(manifest, "complete_steps", lambda folder: [])
    assert resume.earlier_data(tmp_path) is None
