"""Damaged and malformed datasets: each is named or counted, none is read silently."""

import json
import re

import numpy as np
import pytest
from rlds_writer import framed, serialized_episode, tiny_features, tiny_spec, write_records, write_rlds
from tensorflow_datasets.proto import tf_example_pb2

from data_pipelines import records, rlds
from data_pipelines.errors import DatasetError, NonFiniteError, RecordError

MANY = {"train": (3,) * 20}


def shard(folder, number=0):
    return sorted(folder.glob("tiny-train*"))[number]


def flip(path, position, bit=3):
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def place(folder, record):
    """Byte offset and length of a record of the first shard."""
    index = records.scan(str(shard(folder)), "tfrecord")
    return int(index.offsets[record]), int(index.lengths[record])


def outcome(root, on_corrupt="strict"):
    """Reads a whole split; the error, or the episodes."""
    try:
        return [
            episode.actions
            for episode in rlds.open_split(root, "tiny", "train", on_corrupt=on_corrupt).episodes()
        ]
    except DatasetError as error:
        return error


class TestFlippedBit:  # B1
    def test_every_position_is_detected_and_names_the_file(self, tmp_path):
        path = tmp_path / "shard.tfrecord"
        payloads = [b"abc", b"", b"defgh" * 3]
        write_records(path, payloads)
        content = path.read_bytes()
        for position in range(len(content)):
            path.write_bytes(content)
            flip(path, position, position % 8)
            index = records.scan(str(path), "tfrecord")
            files = records.RecordFiles([str(path)], [index], [3], "tfrecord")
            found = []
            with pytest.raises(RecordError) as error:
                for number in range(3):
                    found.append(files.read(number))
            assert "shard.tfrecord" in str(error.value)
            assert found == payloads[: len(found)]

    def test_array_record_gives_no_wrong_payload(self, tmp_path):
        path = tmp_path / "shard.array_record"
        payloads = [np.random.default_rng(i).bytes(200) for i in range(2)]
        write_records(path, payloads, "array_record")
        content = path.read_bytes()
        data = [content.find(payload[100:110]) for payload in payloads]
        assert min(data) > 0
        for position in [*data, *range(0, len(content), len(content) // 40)]:
            path.write_bytes(content)
            flip(path, position)
            index = records.scan(str(path), "array_record")
            files = records.RecordFiles([str(path)], [index], [2], "array_record")
            for number in range(2):
                try:
                    read = files.read(number)
                except RecordError as error:
                    assert "shard.array_record" in str(error)
                else:
                    assert read == payloads[number]
                    assert position != data[number]

    def test_strict_names_file_record_and_episode(self, tmp_path):
        folder = write_rlds(tmp_path)
        offset, length = place(folder, 1)
        flip(shard(folder), offset + 12 + length // 2)
        split = rlds.open_split(tmp_path, "tiny", "train")
        assert split.episode(0).num_steps == 6
        with pytest.raises(
            RecordError, match=r"tiny-train\S*: record 1 \(dataset 'tiny', episode 1\): CRC-32C"
        ):
            split.episode(1)
        assert split.skipped == {}

    def test_skip_leaves_out_exactly_that_record(self, tmp_path):
        folder = write_rlds(tmp_path, lengths=MANY)
        offset, _ = place(folder, 4)
        flip(shard(folder), offset + 12 + 40)
        split = rlds.open_split(tmp_path, "tiny", "train", on_corrupt="skip")
        for _ in range(2):
            assert [episode.index for episode in split.episodes()] == [i for i in range(20) if i != 4]
        assert list(split.skipped) == [4]
        assert "record 4" in split.skipped[4]

    def test_skip_gives_up_above_a_rate(self, tmp_path):
        folder = write_rlds(tmp_path, lengths=MANY)
        for record in range(3):
            flip(shard(folder), place(folder, record)[0] + 12 + 40)
        found = outcome(tmp_path, "skip")
        assert isinstance(found, DatasetError)
        assert "3 of 20 episodes are damaged" in str(found)

    def test_flip_after_the_index_was_cached(self, tmp_path):
        folder = write_rlds(tmp_path)
        split = rlds.open_split(tmp_path, "tiny", "train")
        flip(shard(folder), 3)
        with pytest.raises(RecordError, match="record 0 .*broken length"):
            split.episode(0)


class TestBrokenFile:  # B2
    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"", "the file is empty"),
            (b"\x1f\x8b\x08\x00" + bytes(40), "gzip-compressed"),
            (b"this is no record file, not at all", "broken length of the record at byte 0"),
            (b"short", "truncated in the header"),
        ],
    )
    def test_is_refused_with_the_reason(self, tmp_path, content, message):
        folder = write_rlds(tmp_path)
        shard(folder, 1).write_bytes(content)
        with pytest.raises(RecordError, match=f"tiny-train.*00001-of-00002: record 0: {message}"):
            rlds.open_split(tmp_path, "tiny", "train")

    def test_truncation_anywhere_is_refused(self, tmp_path):
        folder = write_rlds(tmp_path, lengths={"train": (2, 2)}, shards=1, size=(4, 4))
        content = shard(folder).read_bytes()
        for size in range(0, len(content), 23):
            shard(folder).write_bytes(content[:size])
            found = outcome(tmp_path)
            assert isinstance(found, DatasetError)
            assert shard(folder).name in str(found)

    def test_huge_length_allocates_nothing(self, tmp_path):
        path = tmp_path / "huge"
        length = (1 << 60).to_bytes(8, "little")
        path.write_bytes(framed(length)[12:20] + framed(length)[20:24] + b"data")
        index = records.scan(str(path), "tfrecord")
        assert index.count == 0
        assert f"has {1 << 60} bytes, the file ends at byte 16" in index.damage

    def test_skip_keeps_the_records_before_and_counts_those_after(self, tmp_path):
        folder = write_rlds(tmp_path, lengths=MANY)
        offset, _ = place(folder, 8)
        flip(shard(folder), offset)
        split = rlds.open_split(tmp_path, "tiny", "train", on_corrupt="skip")
        assert [episode.index for episode in split.episodes()] == [*range(8), *range(10, 20)]
        assert sorted(split.skipped) == [8, 9]

    def test_garbage_in_a_valid_frame(self, tmp_path):
        folder = write_rlds(tmp_path)
        write_records(shard(folder), [b"\xff" * 30, b"\xff" * 30])
        with pytest.raises(RecordError, match="record 0 .*episode 0.*cannot be parsed"):
            rlds.open_split(tmp_path, "tiny", "train").episode(0)

    @pytest.mark.parametrize("content", [b"", b"no array record", bytes(100_000)])
    def test_array_record(self, tmp_path, content):
        folder = write_rlds(tmp_path, file_format="array_record")
        shard(folder).write_bytes(content)
        with pytest.raises(RecordError, match="00000-of-00002"):
            rlds.open_split(tmp_path, "tiny", "train")


class TestShards:  # B3
    def test_cut_on_a_record_boundary(self, tmp_path):
        folder = write_rlds(tmp_path)
        offset, _ = place(folder, 1)
        shard(folder).write_bytes(shard(folder).read_bytes()[:offset])
        for policy in ("strict", "skip"):
            with pytest.raises(DatasetError, match="tiny-train.*00000-of-00002: 1 records, expected 2"):
                rlds.open_split(tmp_path, "tiny", "train", on_corrupt=policy)

    def test_one_record_too_many(self, tmp_path):
        folder = write_rlds(tmp_path)
        with open(shard(folder), "ab") as file:
            file.write(framed(b"more"))
        with pytest.raises(DatasetError, match="00000-of-00002: 3 records, expected 2"):
            rlds.open_split(tmp_path, "tiny", "train")

    def test_missing(self, tmp_path):
        folder = write_rlds(tmp_path)
        shard(folder, 1).unlink()
        with pytest.raises(DatasetError, match=r"missing file\(s\) \['tiny-train.tfrecord-00001-of-00002'\]"):
            rlds.open_split(tmp_path, "tiny", "train")

    def test_extra(self, tmp_path):
        folder = write_rlds(tmp_path)
        (folder / "tiny-train.tfrecord-00002-of-00003").write_bytes(framed(b"x"))
        with pytest.raises(DatasetError, match=r"extra file\(s\) \['tiny-train.tfrecord-00002-of-00003'\]"):
            rlds.open_split(tmp_path, "tiny", "train")

    @pytest.mark.parametrize(
        "text", ["{", "[]", '{"splits": [{"name": "train"}]}', '{"name": "tiny", "splits": 3}']
    )
    def test_malformed_dataset_info(self, tmp_path, text):
        folder = write_rlds(tmp_path)
        (folder / "dataset_info.json").write_text(text)
        with pytest.raises(DatasetError, match="dataset_info.json"):
            rlds.open_split(tmp_path, "tiny", "train")

    @pytest.mark.parametrize("template", ["../{SHARD_X_OF_Y}", "{SPLIT}", "{UNKNOWN}{SHARD_X_OF_Y}"])
    def test_template_that_gives_no_file_names(self, tmp_path, template):
        folder = write_rlds(tmp_path)
        info = json.loads((folder / "dataset_info.json").read_text())
        info["splits"][0]["filepathTemplate"] = template
        (folder / "dataset_info.json").write_text(json.dumps(info))
        with pytest.raises(DatasetError, match=f"{re.escape(repr(template))} gives no usable file names"):
            rlds.open_split(tmp_path, "tiny", "train")


class TestFeatures:  # B4
    @pytest.mark.parametrize("key", ["action", "image", "state", "language_instruction"])
    def test_missing_feature(self, tmp_path, key):
        write_rlds(tmp_path, drop=(key,))
        with pytest.raises(
            DatasetError, match=rf"dataset 'tiny': no feature '(observation/)?{key}'.*its steps have"
        ):
            rlds.open_split(tmp_path, "tiny", "train")

    def test_wrong_action_size(self, tmp_path):
        write_rlds(tmp_path, width=6)
        with pytest.raises(
            DatasetError, match=r"'tiny': feature 'action': expected Tensor float\[7\], found .*\(6,\)"
        ):
            rlds.open_split(tmp_path, "tiny", "train", spec=tiny_spec())

    def test_wrong_kind_of_depth(self, tmp_path):
        folder = write_rlds(tmp_path, depth="png")
        values = json.loads((folder / "dataset_spec.json").read_text())
        values["cameras"][0]["depth_key"] = "observation/image"
        (folder / "dataset_spec.json").write_text(json.dumps(values))
        with pytest.raises(DatasetError, match="feature 'observation/image': expected depth"):
            rlds.open_split(tmp_path, "tiny", "train")

    @pytest.mark.parametrize("drop", ["action", "image"])
    def test_record_that_lacks_a_declared_feature(self, tmp_path, drop):
        folder = write_rlds(tmp_path / "whole")
        write_rlds(tmp_path / "part", drop=(drop,))
        shard(folder).write_bytes(shard(tmp_path / "part" / "tiny" / "1.0.0").read_bytes())
        split = rlds.open_split(tmp_path / "whole", "tiny", "train")
        with pytest.raises(RecordError, match=rf"record 0 \(dataset 'tiny', episode 0\): .*{drop}"):
            split.episode(0).rgb_bytes(0)

    def test_record_with_another_action_size(self, tmp_path):
        folder = write_rlds(tmp_path / "seven")
        write_rlds(tmp_path / "five", width=5)
        shard(folder).write_bytes(shard(tmp_path / "five" / "tiny" / "1.0.0").read_bytes())
        with pytest.raises(RecordError, match="record 0 .*episode 0.*steps/action"):
            rlds.open_split(tmp_path / "seven", "tiny", "train").episode(0)

    def test_record_with_numbers_in_place_of_images(self, tmp_path):
        folder = write_rlds(tmp_path)
        offset, length = place(folder, 0)
        payload = shard(folder).read_bytes()[offset + 12 :][:length]
        example = tf_example_pb2.Example.FromString(payload)
        example.features.feature["steps/observation/image"].float_list.value.extend([1.0] * 6)
        write_records(shard(folder), [example.SerializeToString(), payload])
        episode = rlds.open_split(tmp_path, "tiny", "train").episode(0)
        with pytest.raises(RecordError, match="episode 0.*key 'observation/image'.*float_list, expected"):
            episode.rgb_bytes(0)

    def test_undecodable_depth(self, tmp_path):
        def edit(split, episode, steps):
            steps[2]["observation"]["depth"] = b"no png"

        write_rlds(tmp_path, depth="png", edit=edit)
        episode = rlds.open_split(tmp_path, "tiny", "train").episode(0)
        assert episode.depth(1).shape == (12, 16)
        with pytest.raises(RecordError, match="episode 0.*step 2, key 'observation/depth'"):
            episode.depth(2)


class TestNotFinite:  # B5
    @pytest.mark.parametrize(("value", "text"), [(np.nan, "nan"), (np.inf, "inf"), (-np.inf, "-inf")])
    def test_action_names_step_and_dimension(self, tmp_path, value, text):
        def edit(split, episode, steps):
            if (split, episode) == ("train", 1):
                steps[3]["action"][2] = value

        folder = write_rlds(tmp_path, edit=edit)
        split = rlds.open_split(tmp_path, "tiny", "train")
        with pytest.raises(NonFiniteError) as error:
            split.episode(1)
        assert str(error.value) == (
            f"{shard(folder)}: record 1 (dataset 'tiny', episode 1): "
            f"step 3, key 'action': dimension 2 (a2) is {text}, expected a finite number"
        )

    def test_state_is_dropped_and_counted(self, tmp_path):
        def edit(split, episode, steps):
            if episode == 7:
                steps[0]["observation"]["state"][1] = np.nan

        write_rlds(tmp_path, lengths=MANY, edit=edit)
        split = rlds.open_split(tmp_path, "tiny", "train", on_corrupt="skip")
        assert [episode.index for episode in split.episodes()] == [i for i in range(20) if i != 7]
        assert "key 'observation/state': dimension 1 (s1) is nan" in split.skipped[7]


def test_short_episodes_are_readable(tmp_path):  # B6
    write_rlds(tmp_path, lengths={"train": (0, 1, 3)}, shards=1, depth="tensor")
    split = rlds.open_split(tmp_path, "tiny", "train")
    assert [episode.num_steps for episode in split.episodes()] == [0, 1, 3]
    empty, single = split.episode(0), split.episode(1)
    assert empty.actions.shape == (0, 7) and empty.states.shape == (0, 5) and empty.instruction == b""
    assert single.actions.shape == (1, 7) and single.depth(0).shape == (12, 16)
    with pytest.raises(IndexError):
        empty.rgb_bytes(0)


@pytest.mark.parametrize("text", ["", "w" * 10_000, b"\xff\xfe\x00", "köpek"])  # B7
def test_any_instruction_is_handed_on_as_stored(tmp_path, text):
    write_rlds(tmp_path, instruction=text)
    expected = text if isinstance(text, bytes) else text.encode()
    assert rlds.open_split(tmp_path, "tiny", "train").episode(0).instruction == expected


class TestForeignClass:  # B14
    @pytest.fixture
    def canary(self, tmp_path, monkeypatch):
        package = tmp_path / "package"
        package.mkdir()
        (package / "canary_module.py").write_text(f"open({str(tmp_path / 'imported')!r}, 'w').close()\n")
        monkeypatch.syspath_prepend(str(package))
        return tmp_path / "imported"

    def forged(self, folder, change):
        path = folder / "features.json"
        tree = json.loads(path.read_text())
        change(tree["featuresDict"]["features"]["steps"]["sequence"]["feature"]["featuresDict"]["features"])
        path.write_text(json.dumps(tree))

    @pytest.mark.parametrize(
        "change",
        [
            lambda f: f["action"].update(pythonClassName="canary_module.Tensor"),
            lambda f: f["action"].update(type="canary_module.Tensor", content={}),
            lambda f: f["action"].update(python_class_name="canary_module.Tensor"),
            lambda f: f.update(action={"type": "canary_module.Tensor", "content": {}}),
            lambda f: f["action"].update(jsonFeature={"json": "{}"}),
            lambda f: f["observation"]["featuresDict"]["features"]["state"].update(pythonClassName="os.path"),
            lambda f: f.update(action="canary_module.Tensor"),
        ],
    )
    def test_is_refused_before_any_import(self, tmp_path, canary, change):
        folder = write_rlds(tmp_path)
        self.forged(folder, change)
        with pytest.raises(DatasetError, match=r"features.json: steps/(action|observation/state): "):
            rlds.open_split(tmp_path, "tiny", "train")
        assert not canary.exists()

    def test_builder_module_is_never_imported(self, tmp_path, canary):
        folder = write_rlds(tmp_path)
        info = json.loads((folder / "dataset_info.json").read_text())
        info["moduleName"] = "canary_module"
        (folder / "dataset_info.json").write_text(json.dumps(info))
        assert rlds.open_split(tmp_path, "tiny", "train").num_episodes == 4
        assert not canary.exists()

    @pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"pythonClassName": 3}'])
    def test_malformed_features(self, tmp_path, text):
        folder = write_rlds(tmp_path)
        (folder / "features.json").write_text(text)
        with pytest.raises(DatasetError, match="features.json"):
            rlds.open_split(tmp_path, "tiny", "train")


def test_features_that_differ_in_length_within_a_record(tmp_path):
    folder = write_rlds(tmp_path, lengths={"train": (3,)}, shards=1)
    longer = serialized_episode(tiny_features(), 0, _steps(4))
    shorter = serialized_episode(tiny_features(), 0, _steps(3))
    example, other = _example(longer), _example(shorter)
    example.features.feature["steps/action"].CopyFrom(other.features.feature["steps/action"])
    write_records(shard(folder), [example.SerializeToString()])
    with pytest.raises(RecordError, match="features differ in length: {'action': 3"):
        rlds.open_split(tmp_path, "tiny", "train").episode(0)


def _steps(length):
    from rlds_writer import episode_steps

    return episode_steps(0, length)


def _example(record):
    from tensorflow_datasets.proto import tf_example_pb2

    return tf_example_pb2.Example.FromString(record)
