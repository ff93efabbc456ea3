"""Labelling: round trip, alignment, resume, hosts, and what is refused."""

import argparse
import dataclasses
import json

import numpy as np
import pytest

from data_pipelines.code_dataset import MISSING, CodeReader, CodeWriter, LabelError
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream
from farsighted_jax.cli import label, retrieve
from farsighted_jax.core import config as config_lib
from farsighted_jax.lam.inference import LatentActions

pytestmark = pytest.mark.usefixtures("loaded_once")


def run_label(out, **kwargs):
    lines = []
    (folder,) = label.run(out, "", report=lines.append, **{"num_shards": 3, **kwargs})
    return folder, lines


@pytest.fixture(scope="module")
def labelled(tmp_path_factory, tool_model):
    """One uninterrupted labelling of the training split."""
    patch = pytest.MonkeyPatch()
    patch.setattr("farsighted_jax.cli.clips.load_model", lambda *args, **kwargs: tool_model)
    out = tmp_path_factory.mktemp("labelled")
    folder, _ = run_label(out)
    patch.undo()
    return out, folder


def shard_bytes(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.array_record-*"))}


def test_labels_read_back_equal_encoding_each_window(labelled, tool_model, tool_data):
    reader = CodeReader(labelled[0], "tiny", "train")
    split = open_split(tool_data, "tiny", "train")
    assert reader.num_episodes == 4
    seen = set()
    for number, length in enumerate((9, 5, 1, 4)):
        found = reader.episode(number)
        source = tool_model.episode(split, number)
        batch = tool_model.clips(source, range(length))
        expected = tool_model.actions.encode_rows(batch, 4)["code"]
        np.testing.assert_array_equal(found.valid_Lt, batch["frame_valid"][:, 1:])
        np.testing.assert_array_equal(found.valid_Lt.sum(axis=0), [max(length - 1, 0), max(length - 3, 0)])
        valid = found.valid_Lt[..., None]
        np.testing.assert_array_equal(found.code_LtZ, np.where(valid, expected, MISSING))
        seen |= set(found.code_LtZ[found.valid_Lt].ravel().tolist())
    assert len(seen) > 3, "codes that are all alike would prove nothing"


def test_episodes_encoded_together_keep_their_own_codes(labelled, tmp_path):
    run_label(tmp_path, num_shards=1)
    together, alone = CodeReader(tmp_path, "tiny", "train"), CodeReader(labelled[0], "tiny", "train")
    for number in range(4):
        for found, expected in zip(together.episode(number), alone.episode(number), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_labels_say_what_made_them(labelled, tool_model, tool_data):
    labels = CodeReader(labelled[0], "tiny", "train").labels
    assert labels["model"] == tool_model.describe() and len(labels["model"]["digest"]) == 64
    assert labels["offsets_s"] == labels["model"]["offsets_s"] == [0.2, 0.6] and labels["keyframe_steps"] == [
        1,
        3,
    ]
    assert labels["codebook_size"] == 7 and labels["num_slots"] == 3
    assert labels["source"]["fingerprint"] == open_split(tool_data, "tiny", "train").fingerprint


def test_a_stream_reads_them(labelled, tool_model, tool_data):
    data = {
        "dir": str(tool_data),
        "mixture": "tiny",
        "split": "train",
        "resolution": 8,
        "offsets_s": (0.2, 0.6),
    }
    stream = open_stream(data | {"codes": str(labelled[0])}, batch_size=4, seed=0)
    assert stream.codes == (7, 3, tool_model.describe()["digest"])
    reader, batch = CodeReader(labelled[0], "tiny", "train"), stream.batch(0)
    for row in range(4):
        found, step = reader.episode(batch["episode"][row]), batch["step"][row]
        np.testing.assert_array_equal(batch["code_valid"][row], found.valid_Lt[step])
        np.testing.assert_array_equal(batch["code"][row], np.maximum(found.code_LtZ[step], 0))


def test_a_dataset_may_have_offsets_of_its_own(tmp_path, tool_model, tool_data, monkeypatch):
    config = config_lib.from_json(config_lib.to_json(tool_model.run.config))
    with config.unlocked():
        config.data.dataset_offsets_s = (("tiny", (0.4, 0.6)),)
    own = dataclasses.replace(tool_model, run=dataclasses.replace(tool_model.run, config=config))
    monkeypatch.setattr("farsighted_jax.cli.clips.load_model", lambda *args, **kwargs: own)
    run_label(tmp_path, num_shards=1)
    reader = CodeReader(tmp_path, "tiny", "train")
    assert reader.labels["offsets_s"] == [0.4, 0.6] and reader.labels["keyframe_steps"] == [2, 3]
    np.testing.assert_array_equal(reader.episode(0).valid_Lt.sum(axis=0), [7, 6])
    source, _ = own.open(f"rlds:{tool_data}/tiny:train:0")
    np.testing.assert_allclose(own.clips(source, [0])["time_s"], [[0, 0.4, 0.6]], atol=1e-6)


def test_tfds_reads_the_side_dataset(labelled):
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(labelled[1])
    source = builder.as_data_source("train", decoders={"steps": tfds.decode.SkipDecoding()})
    assert len(source) == 4 and builder.info.splits["train"].shard_lengths == [1, 1, 2]
    expected = CodeReader(labelled[0], "tiny", "train").episode(3)
    assert source[3]["episode_metadata"] == {"episode": 3, "num_steps": 4}
    np.testing.assert_array_equal(source[3]["steps"]["code"], expected.code_LtZ)


def test_a_killed_run_resumes_and_gives_the_same_bytes(labelled, tmp_path, monkeypatch):
    original = CodeWriter.write

    def interrupted(episodes):
        yield next(iter(episodes))
        raise KeyboardInterrupt

    def killed_in_the_second(self, shard, episodes):
        original(self, shard, interrupted(episodes) if shard == 1 else episodes)

    monkeypatch.setattr(CodeWriter, "write", killed_in_the_second)
    with pytest.raises(KeyboardInterrupt):
        run_label(tmp_path)
    monkeypatch.setattr(CodeWriter, "write", original)
    folder = tmp_path / "tiny_codes" / "1.0.0"
    first = shard_bytes(folder)
    assert len(first) == 1 and not list(folder.glob(".*partial"))
    with pytest.raises(DatasetError, match="dataset_info.json"):
        CodeReader(tmp_path, "tiny", "train")
    before = next(folder.glob("*.array_record-*")).stat().st_mtime_ns
    _, lines = run_label(tmp_path)
    assert "shard 0 of 3 (1/3 of this host): done before, verified" in lines[0]
    assert [path.stat().st_mtime_ns for path in folder.glob("*00000-of-*") if path.is_file()][0] == before
    assert shard_bytes(folder) == shard_bytes(labelled[1]) and first.items() < shard_bytes(folder).items()
    assert "3 episodes labelled" in lines[3] and lines[3].endswith("complete")


def test_a_damaged_shard_is_labelled_again(labelled, tmp_path):
    folder, _ = run_label(tmp_path)
    path = sorted(folder.glob("*.array_record-*"))[1]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    _, lines = run_label(tmp_path)
    assert [("verified" in line) for line in lines[:3]] == [True, False, True]
    assert shard_bytes(folder) == shard_bytes(labelled[1])


def test_hosts_share_the_shards_in_any_order(labelled, tmp_path):
    folder, lines = run_label(tmp_path, process=(1, 2))
    assert lines[-2].endswith("other hosts are not done yet") and len(shard_bytes(folder)) == 1
    assert not (folder / "dataset_info.json").exists()
    _, lines = run_label(tmp_path, process=(0, 2))
    assert lines[-2].endswith("complete")
    assert shard_bytes(folder) == shard_bytes(labelled[1])


def test_splits_stand_side_by_side_and_other_labels_are_refused(tmp_path, tool_model, monkeypatch):
    run_label(tmp_path, split="val")
    folder, _ = run_label(tmp_path)
    info = json.loads((folder / "dataset_info.json").read_text())
    assert {entry["name"]: entry["shardLengths"] for entry in info["splits"]} == {
        "train": ["1", "1", "2"], "val": ["1", "1"]
    }  # fmt: skip
    with pytest.raises(LabelError, match="num_shards: 3 -> 4"):
        run_label(tmp_path, num_shards=4)
    monkeypatch.setattr(type(tool_model), "describe", lambda self: {"digest": "another"})
    with pytest.raises(LabelError, match="holds other labels.*model:.*another"):
        run_label(tmp_path)


def test_a_slice_is_refused_because_its_episodes_count_from_zero(tmp_path):
    with pytest.raises(LabelError, match=r"train\[1:\].*whole splits"):
        run_label(tmp_path, split="train[1:]")


def test_records_of_another_episode_are_noticed(labelled, tmp_path):
    folder, _ = run_label(tmp_path)
    shards = sorted(folder.glob("*.array_record-*"))
    content = [path.read_bytes() for path in shards[:2]]
    shards[0].write_bytes(content[1])
    with pytest.raises(RecordError, match="holds episode 1, expected 0"):
        CodeReader(tmp_path, "tiny", "train").episode(0)


def search(tool_data, out, **changes):
    known = {"checkpoint": "", "query": f"rlds:{tool_data}/tiny:train:0:2", "data": None, "mixture": None}
    known |= {"split": "train", "videos": None, "fps": None, "every": None, "k": 4, "step": None}
    known |= {"vectors": "quantized", "one_per_video": False, "out": str(out), "labels": None}
    return retrieve.run(argparse.Namespace(**known | changes))


def test_retrieval_by_labels_finds_what_encoding_finds_and_encodes_the_query_alone(
    labelled, tool_model, tool_data, tmp_path, monkeypatch
):
    encode, rows = tool_model.actions.encode_rows, []
    monkeypatch.setattr(
        tool_model.actions, "encode_rows", lambda batch, n: rows.append(len(batch["rgb"])) or encode(batch, n)
    )
    for every in (None, 0.4):
        expected = search(tool_data, tmp_path / "encoded.png", every=every)
        rows.clear()
        found = search(tool_data, tmp_path / "labelled.png", every=every, labels=str(labelled[0]))
        assert rows == [1]
        assert found["candidates"] == expected["candidates"] >= 2
        for one, other in zip(found["clips"], expected["clips"], strict=True):
            assert one | {"distance": 0} == other | {"distance": 0}
            assert one["distance"] == pytest.approx(other["distance"], abs=1e-5)
        assert (tmp_path / "labelled.png").read_bytes() == (tmp_path / "encoded.png").read_bytes()


def test_labels_of_another_model_keyframes_or_dataset_are_refused(
    labelled, tool_model, tool_data, tmp_path, monkeypatch
):
    out, labels = tmp_path / "r.png", str(labelled[0])
    with pytest.raises(DatasetError, match="val"):
        search(tool_data, out, labels=labels, split="val")
    path = labelled[1] / "labels-train.json"
    written = json.loads(path.read_text())
    for keys, value, named in (
        (("source", "fingerprint"), "0" * 8, "source.fingerprint: '00000000' -> "),
        (("source", "camera"), "wrist", "source.camera: 'wrist' -> 'primary'"),
        (("offsets_s",), [0.4, 0.6], r"offsets_s: \[0.4, 0.6\] -> \[0.2, 0.6\]"),
    ):
        changed = json.loads(json.dumps(written))
        (changed[keys[0]] if keys[1:] else changed)[keys[-1]] = value
        path.write_text(json.dumps(changed))
        try:
            with pytest.raises(LabelError, match=f"tiny:train that do not fit.*{named}"):
                search(tool_data, out, labels=labels)
        finally:
            path.write_text(json.dumps(written))
    monkeypatch.setattr(tool_model.actions, "digest", "f" * 64)
    with pytest.raises(LabelError, match="model.digest: '0123.*-> 'ffff.*label again"):
        search(tool_data, out, labels=labels)
    assert not out.exists()


@pytest.mark.slow
def test_rows_spread_over_devices_give_the_same_codes(tool_model, tool_data):
    import jax

    run = tool_model.run
    spread = LatentActions(run.task, run.params, run.model_state, devices=jax.devices()[:2])
    batch = tool_model.clips(tool_model.episode(open_split(tool_data, "tiny", "train"), 0), range(4))
    found, expected = (actions.encode(batch) for actions in (spread, tool_model.actions))
    assert len(found["code"].sharding.device_set) == 2
    np.testing.assert_array_equal(found["code"], expected["code"])
