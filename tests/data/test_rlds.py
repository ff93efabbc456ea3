"""RLDS splits: episodes come back as written; slices, versions, specifications."""

import json
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import remote_folder
import tensorflow_datasets as tfds
from rlds_writer import episode_steps, tiny_spec, write_rlds

from data_pipelines import dataset_info, rlds
from data_pipelines.episode import EpisodeParser
from data_pipelines.errors import DatasetError
from data_pipelines.features import ALLOWED, load_features
from data_pipelines.oxe.registry import SPECS, spec_for
from data_pipelines.validate import dataset_report
from farsighted_jax.core.spec import SpecError

LENGTHS = (6, 5, 4, 7)


@pytest.mark.parametrize("file_format", ["tfrecord", "array_record"])
@pytest.mark.parametrize("depth", [None, "tensor", "png"])
def test_episodes_come_back_as_written(tmp_path, file_format, depth):
    write_rlds(tmp_path, file_format=file_format, depth=depth)
    split = rlds.open_split(tmp_path, "tiny", "train")
    assert (split.num_episodes, split.version, split.spec.name) == (4, "1.0.0", "tiny")
    for number in (2, 0, 3, 1):
        steps = episode_steps(number, LENGTHS[number], depth=depth)
        episode = split.episode(number)
        assert (episode.index, episode.num_steps) == (number, LENGTHS[number])
        np.testing.assert_array_equal(episode.actions, [step["action"] for step in steps])
        np.testing.assert_array_equal(episode.states, [step["observation"]["state"] for step in steps])
        assert episode.actions.dtype == episode.states.dtype == np.float32
        assert episode.instruction == f"task {number}".encode()
        assert episode.metadata == {"episode_id": number}
        for step in (LENGTHS[number] - 1, 0):
            data = np.frombuffer(episode.rgb_bytes(step), np.uint8)
            image = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
            np.testing.assert_array_equal(image, steps[step]["observation"]["image"])
            if depth:
                found = episode.depth(step)
                assert found.dtype == np.float32
                np.testing.assert_array_equal(found, steps[step]["observation"]["depth"][..., 0])
            else:
                assert episode.depth(step) is None


def test_a_record_is_parsed_once(tmp_path, monkeypatch):
    write_rlds(tmp_path, depth="png")
    split = rlds.open_split(tmp_path, "tiny", "train")
    parsed = []
    monkeypatch.setattr(
        EpisodeParser,
        "parse",
        lambda self, record, parse=EpisodeParser.parse: parsed.append(1) or parse(self, record),
    )
    episode = split.episode(1)
    assert episode.rgb_bytes(3) and episode.depth(2).shape == (12, 16) and episode.instruction
    assert len(parsed) == 1


def test_a_dataset_behind_a_uri(tmp_path):
    write_rlds(tmp_path, depth="png")
    split = rlds.open_split(remote_folder.register(tmp_path), "tiny", "train", cache_dir=tmp_path / "cache")
    assert split.directory == "fake://tiny/1.0.0"
    local = rlds.open_split(tmp_path, "tiny", "train")
    assert split.fingerprint == local.fingerprint
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda number: split.episode(number).rgb_bytes(1), [0, 1, 2, 3] * 5))
    assert found == [local.episode(number).rgb_bytes(1) for number in [0, 1, 2, 3] * 5]


def test_cameras_that_are_absent_or_unknown(tmp_path):
    write_rlds(tmp_path)
    episode = rlds.open_split(tmp_path, "tiny", "val").episode(0)
    assert episode.rgb_bytes(0, "wrist") == b""
    assert episode.depth(0, "wrist") is None
    with pytest.raises(SpecError, match="no camera 'wirst'"):
        episode.rgb_bytes(0, "wirst")
    with pytest.raises(IndexError, match="step 5 is not within 0..4"):
        episode.rgb_bytes(5)


@pytest.mark.parametrize("encoding", ["zlib", "bytes"])
def test_encoded_tensors(tmp_path, encoding):
    write_rlds(tmp_path, depth="tensor", encoding=encoding)
    episode = rlds.open_split(tmp_path, "tiny", "train").episode(1)
    steps = episode_steps(1, 5, depth="tensor")
    np.testing.assert_array_equal(episode.actions, [step["action"] for step in steps])
    np.testing.assert_array_equal(episode.depth(3), steps[3]["observation"]["depth"][..., 0])


def test_agrees_with_the_full_tfds_deserialiser(bridge_dir, tmp_path):
    split = rlds.open_split(bridge_dir, "bridge_dataset", "val", cache_dir=tmp_path)
    features = tfds.features.FeaturesDict.from_config(split.directory)
    skip = {"steps": {"observation": {f"image_{i}": tfds.decode.SkipDecoding() for i in range(4)}}}
    for episode in split.episodes():
        record = split._records.read(episode.index)
        expected = list(features.deserialize_example_np(record, decoders=skip)["steps"])
        assert episode.num_steps == len(expected) == 10
        np.testing.assert_array_equal(episode.actions, [step["action"] for step in expected])
        np.testing.assert_array_equal(episode.states, [step["observation"]["state"] for step in expected])
        assert episode.instruction == expected[0]["language_instruction"]
        assert episode.rgb_bytes(7) == expected[7]["observation"]["image_0"]
        assert episode.rgb_bytes(7, "secondary") == expected[7]["observation"]["image_1"]


def test_real_data_leaves_its_folder_alone(bridge_dir, tmp_path):
    split = rlds.open_split(bridge_dir, "bridge_dataset", "train", cache_dir=tmp_path)
    assert [episode.num_steps for episode in split.episodes()] == [10] * 17
    assert not list((bridge_dir / "bridge_dataset" / "1.0.0").glob(".farsighted*"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train", [0, 1, 2, 3]),
        ("train[:50%]", [0, 1]),
        ("train[50%:]", [2, 3]),
        ("train[:3]", [0, 1, 2]),
        ("train[-1:]", [3]),
        ("train[25%:-25%]", [1, 2]),
        ("train[:90%]", [0, 1, 2, 3]),
    ],
)
def test_slices(tmp_path, text, expected):
    write_rlds(tmp_path)
    split = rlds.open_split(tmp_path, "tiny", text)
    assert [episode.metadata["episode_id"] for episode in split.episodes()] == expected
    assert [episode.index for episode in split.episodes()] == list(range(len(expected)))


def test_complementary_slices_share_nothing_and_lose_nothing():
    for count in range(1, 40):
        for percent in range(1, 100):
            _, left = dataset_info.split_range(f"train[:{percent}%]")
            _, right = dataset_info.split_range(f"train[{percent}%:]")
            cut = dataset_info._bound(left[1], count)
            assert cut == dataset_info._bound(right[0], count)
            assert abs(cut - count * percent / 100) <= 0.5


@pytest.mark.parametrize(
    "text", ["train[", "train[:x]", "train[10%]", "", "train[:5][:2]", "a/b", "train[5.5%:]"]
)
def test_malformed_slices_are_quoted(tmp_path, text):
    write_rlds(tmp_path)
    with pytest.raises(DatasetError) as error:
        rlds.open_split(tmp_path, "tiny", text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize("text", ["train[:5]", "train[3:3]", "train[:0%]", "train[4:]", "train[-5:]"])
def test_slices_out_of_range(tmp_path, text):
    write_rlds(tmp_path)
    with pytest.raises(DatasetError, match="empty or out of range"):
        rlds.open_split(tmp_path, "tiny", text)


def test_unknown_split_dataset_and_version(tmp_path):
    write_rlds(tmp_path)
    with pytest.raises(DatasetError, match=r"no split 'test'; it has \['train', 'val'\]"):
        rlds.open_split(tmp_path, "tiny", "test")
    with pytest.raises(DatasetError, match=r"no dataset folder .*/tony'; beside it: \['tiny'\]"):
        rlds.open_split(tmp_path, "tony", "train")
    with pytest.raises(DatasetError, match=r"expected version '2.0.0' .* found \['1.0.0'\]"):
        rlds.open_split(tmp_path, "tiny", "train", version="2.0.0")
    with pytest.raises(DatasetError, match="on_corrupt 'ignore'"):
        rlds.open_split(tmp_path, "tiny", "train", on_corrupt="ignore")


def test_newest_version_is_by_number(tmp_path):
    folder = write_rlds(tmp_path)
    shutil.copytree(folder, folder.parent / "0.10.0")
    shutil.copytree(folder, folder.parent / "10.0.0")
    (folder.parent / "9.9.9.incomplete").mkdir()
    assert rlds.open_split(tmp_path, "tiny", "train").version == "10.0.0"
    assert rlds.open_split(tmp_path, "tiny", "train", version="0.10.0").version == "0.10.0"


def test_where_the_specification_comes_from(tmp_path):
    folder = write_rlds(tmp_path, hz=3.0)
    assert rlds.open_split(tmp_path, "tiny", "train").spec == tiny_spec(hz=3.0)
    assert rlds.open_split(tmp_path, "tiny", "train", spec=tiny_spec(hz=9.0)).spec.hz == 9.0
    (folder / "dataset_spec.json").unlink()
    with pytest.raises(DatasetError, match="dataset 'tiny' has no specification.*dataset_spec.json"):
        rlds.open_split(tmp_path, "tiny", "train")
    (folder / "dataset_spec.json").write_text('{"name": "tiny", "fps": 5}')
    with pytest.raises(DatasetError, match="dataset_spec.json: no DatasetSpec"):
        rlds.open_split(tmp_path, "tiny", "train")


def test_registry():
    for name, spec in SPECS.items():
        assert spec_for(name) is spec
        assert spec.source
    with pytest.raises(DatasetError, match="did you mean 'bridge_dataset'"):
        spec_for("bridge_data_set")


def test_bridge_actions_are_changes_of_the_state(bridge_dir, tmp_path):
    split = rlds.open_split(bridge_dir, "bridge_dataset", "train", cache_dir=tmp_path)
    actions, changes = [], []
    for episode in split.episodes():
        actions.append(episode.actions[:-1])
        changes.append(np.diff(episode.states, axis=0))
    actions, changes = np.concatenate(actions), np.concatenate(changes)
    for dimension, delta in enumerate(split.spec.action.delta):
        if delta:
            assert np.corrcoef(actions[:, dimension], changes[:, dimension])[0, 1] > 0.6


def test_fingerprint_follows_content_not_place_or_time(tmp_path):
    folder = write_rlds(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    first = rlds.open_split(tmp_path / "a", "tiny", "train").fingerprint
    assert rlds.open_split(tmp_path / "b", "tiny", "train").fingerprint == first
    assert rlds.open_split(tmp_path / "a", "tiny", "train[:2]").fingerprint != first
    assert rlds.open_split(tmp_path / "a", "tiny", "val").fingerprint != first
    shutil.rmtree(folder)

    def edit(split, episode, steps):
        steps[0]["action"][0] += 1.0

    write_rlds(tmp_path / "a", edit=edit)
    assert rlds.open_split(tmp_path / "a", "tiny", "train").fingerprint != first


def test_report(tmp_path):
    def edit(split, episode, steps):
        for i, step in enumerate(steps):
            step["action"][0] = 0.5
            step["action"][-1] = 1.0
            if i == 0:
                step["action"][:-1] = 0.0
        if episode == 0:
            steps[0]["language_instruction"] = ""
        if episode == 1:
            steps[0]["language_instruction"] = b"\xff\xfe"
        if episode == 2:
            steps[3]["action"][1] = np.inf

    write_rlds(tmp_path, edit=edit)
    report = json.loads(json.dumps(dataset_report(rlds.open_split(tmp_path, "tiny", "train"))))
    assert (report["episodes"], report["steps"], report["hz"]) == (3, 18, 5.0)
    assert report["length"] == {"min": 5, "median": 6.0, "max": 7, "zero": 0, "one": 0}
    assert report["instructions"] == {"present": 2, "missing": 1, "not_utf8": 1}
    assert report["damaged"]["episodes"] == report["damaged"]["not_finite"] == 1
    assert report["constant_dimensions"] == ["gripper"]
    assert report["no_op_share"] == pytest.approx(3 / 18)
    assert report["cameras"]["primary"]["sizes"] == {"12x16": 12}
    assert report["cameras"]["primary"]["blank"] is False
    assert report["action"]["a0"]["max"] == 0.5
    assert dataset_report(rlds.open_split(tmp_path, "tiny", "train"), max_episodes=1)["episodes"] == 1


def test_report_names_blank_cameras(tmp_path):
    def edit(split, episode, steps):
        for step in steps:
            step["observation"]["image"][:] = 7

    write_rlds(tmp_path, edit=edit)
    assert dataset_report(rlds.open_split(tmp_path, "tiny", "val"))["cameras"]["primary"]["blank"] is True


def test_allowed_classes_are_tfds_own():
    assert all(name.startswith("tensorflow_datasets.core.features.") for name in ALLOWED)
    modules = {name.rsplit(".", 1)[0] for name in ALLOWED}
    import tensorflow_datasets.core.features  # noqa: F401  (brings them all in)

    assert modules <= set(sys.modules)


def test_features_of_real_data(bridge_dir):
    folder = bridge_dir / "bridge_dataset" / "1.0.0"
    features = load_features((folder / "features.json").read_text(), "features.json")
    assert features.leaves["steps/action"].shape == (7,)
    assert features.serialized["steps/observation/image_0"].np_dtype == np.object_


def test_reading_imports_neither_tensorflow_nor_jax(tmp_path):
    write_rlds(tmp_path, depth="png")
    code = (
        "import sys\n"
        "from data_pipelines import rlds, validate\n"
        f"split = rlds.open_split({str(tmp_path)!r}, 'tiny', 'train')\n"
        "validate.dataset_report(split)\n"
        "split.episode(0).depth(0)\n"
        "print([name for name in ('tensorflow', 'jax', 'flax', 'torch') if name in sys.modules])\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
