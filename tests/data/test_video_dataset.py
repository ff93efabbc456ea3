"""Films and folders of pictures as a dataset beside others."""

import json
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from lerobot_writer import frame, write_film
from rlds_writer import write_rlds

from data_pipelines.dataset import Place, find_datasets, open_split, spec_of, split_names
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.stream import open_stream
from data_pipelines.validate import validate
from data_pipelines.video import dataset as video
from data_pipelines.video import film_index
from farsighted_jax.core.batch import check

README = Path(__file__).resolve().parents[2] / "data_pipelines" / "README.md"
SPEC = json.loads(re.search(r"```json\n(.+?)```", README.read_text(encoding="utf-8"), re.DOTALL)[1])


def write_pictures(folder, number, num):
    folder.mkdir(parents=True)
    for step in range(num):
        cv2.imwrite(str(folder / f"{step}.png"), frame(number, step)[..., ::-1])


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Of the dataset clips: a film at 10, one at 20 and one at 15 frames a second, and pictures."""
    root = tmp_path_factory.mktemp("videos")
    clips = root / "clips"
    write_film(clips / "a.mp4", [frame(0, step) for step in range(12)], fps=10)
    write_film(clips / "b.mp4", [frame(1, step) for step in range(31)], fps=20)
    write_film(clips / "c.mp4", [frame(2, step) for step in range(16)], fps=15)
    write_pictures(clips / "d", 3, 11)
    (clips / "b.txt").write_text("pour the tea\n", encoding="utf-8")
    (clips / "d.txt").write_text("stir", encoding="utf-8")
    (clips / "dataset_spec.json").write_text(json.dumps(SPEC))
    write_rlds(root, "robot", lengths={"train": (9, 8, 12)}, hz=10.0)
    return root


def opened(root, name="clips", split="train", **options):
    return open_split(root, name, split, **options)


def test_episodes_are_videos_at_the_rate_of_the_dataset(root):
    split = opened(root)
    assert [e.metadata["file"] for e in split.episodes()] == ["a.mp4", "b.mp4", "c.mp4", "d"]
    assert [e.num_steps for e in split.episodes()] == [12, 16, 11, 11]
    assert [e.instruction for e in split.episodes()] == [b"", b"pour the tea", b"", b"stir"]
    # Steps at 0.1 s: frames 2 k of a film at 20, the nearest of 1.5 k of one at 15 frames a second.
    expected = {0: range(12), 1: range(0, 31, 2), 2: [0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15], 3: range(11)}
    for number, frames in expected.items():
        episode = split.episode(number)
        assert episode.actions is episode.states is episode.depth(0) is None
        for step in reversed(range(episode.num_steps)):
            others = [np.abs(episode.rgb(step).astype(int) - frame(number, f)).mean() for f in frames]
            assert int(np.argmin(others)) == step and min(others) < 12
    with pytest.raises(IndexError):
        episode.rgb(11)


def test_it_stands_in_a_mixture_beside_a_robot(root):
    data = {"dir": str(root), "mixture": "robot:0.5,clips:0.5", "split": "train", "resolution": 16}
    data |= {"offsets_s": (0.1, 0.3), "text_tokenizer": "bytes"}
    stream = open_stream(data, batch_size=8, seed=0)
    batch = stream.batch(0)
    check(batch, values=True)
    of_video = batch["dataset"] == stream.names.index("clips")
    assert of_video.sum() == 4 and batch["frame_valid"][:, :2].all()
    assert not batch["action_valid"][of_video].any() and batch["action_valid"][~of_video].any()
    assert not batch["proprio_valid"][of_video].any()
    assert stream.counts["clips"]["windows"] == 11 + 15 + 10 + 10
    assert stream.statistics["clips"]["action"] is None


def test_films_are_decoded_once_to_be_counted(root, tmp_path, monkeypatch):
    opened(root, cache_dir=tmp_path)
    monkeypatch.setattr(film_index, "_decoded", lambda path: pytest.fail(f"decoded {path} again"))
    assert opened(root, cache_dir=tmp_path).episode(2).num_steps == 11


def test_splits_slices_and_fingerprints(tmp_path):
    for name, number in (("train", 0), ("val", 1)):
        for i in range(2):
            write_film(tmp_path / "s" / name / f"{i}.mp4", [frame(number + i, s) for s in range(8)])
    place = Place(str(tmp_path), "s")
    assert find_datasets(tmp_path / "s") == [place] == find_datasets(tmp_path)
    assert split_names(place) == ["train", "val"]
    assert spec_of(tmp_path, "s").hz == 10 and spec_of(tmp_path, "s").language_key == ""
    part = opened(tmp_path, "s", "val[1:]")
    assert (part.num_episodes, part.first_episode, part.episode(0).metadata["file"]) == (1, 1, "val/1.mp4")
    first = opened(tmp_path, "s").fingerprint
    assert opened(tmp_path, "s", "val").fingerprint != first
    shutil.copytree(tmp_path / "s", tmp_path / "other" / "s")
    assert opened(tmp_path / "other", "s").fingerprint == first
    write_film(tmp_path / "s" / "train" / "1.mp4", [frame(9, s) for s in range(8)])
    assert opened(tmp_path, "s").fingerprint != first
    with pytest.raises(DatasetError, match=r"no split 'test'; it has \['train', 'val'\]"):
        opened(tmp_path, "s", "test")


def test_datasets_of_all_formats_are_found_together(root):
    assert find_datasets(root) == [Place(str(root), "clips"), Place(str(root), "robot")]


def test_damaged_and_slow_films_are_named_or_counted(tmp_path):
    clips = tmp_path / "clips"
    for number in range(21):
        write_film(clips / f"{number}.mp4", [frame(0, step) for step in range(6)])
    (clips / "1.mp4").write_bytes(b"no film")
    write_film(clips / "2.mp4", [frame(2, step) for step in range(6)], fps=5)
    (clips / "dataset_spec.json").write_text(json.dumps(SPEC))
    with pytest.raises(RecordError, match=r"1.mp4.*episode 1.*cannot be opened as a video"):
        list(opened(tmp_path).episodes())
    with pytest.raises(RecordError, match=r"2.mp4.*episode 2.*5 frames a second, expected at least .* 10"):
        opened(tmp_path).episode(2)
    data = {"dir": str(tmp_path), "mixture": "clips", "split": "train", "resolution": 8, "offsets_s": (0.1,)}
    stream = open_stream(data | {"on_corrupt": "skip"}, batch_size=4, seed=0)
    assert stream.counts["clips"]["episodes_skipped_for"] == {"video": 2}
    assert {f.place for f in validate(Place(str(tmp_path), "clips")).of("error")} == {
        "clips:train, episode 1",
        "clips:train, episode 2",
    }


def test_a_spoiled_picture_is_named(tmp_path):
    write_pictures(tmp_path / "clips" / "d", 0, 4)
    (tmp_path / "clips" / "dataset_spec.json").write_text(json.dumps(SPEC))
    (tmp_path / "clips" / "d" / "2.png").write_bytes(b"spoiled")
    with pytest.raises(
        RecordError, match=r"clips/d \(dataset 'clips', episode 0\): step 2, frame 2: cannot decode"
    ):
        opened(tmp_path).episode(0).rgb(2)


def test_without_one_rate_it_says_what_to_write(tmp_path):
    write_film(tmp_path / "clips" / "a.mp4", [frame(0, s) for s in range(4)], fps=10)
    assert opened(tmp_path).spec.hz == 10
    write_film(tmp_path / "clips" / "b.mp4", [frame(0, s) for s in range(4)], fps=20)
    with pytest.raises(
        DatasetError, match=r"films at \[10.0, 20.0\] frames a second have no one rate; write .*spec"
    ):
        opened(tmp_path)
    (tmp_path / "clips" / "b.mp4").unlink()
    write_pictures(tmp_path / "clips" / "d", 0, 4)
    with pytest.raises(DatasetError, match="and folders of pictures have no one rate"):
        opened(tmp_path)


def test_videos_have_no_actions(root, tmp_path):
    values = SPEC | {"state_key": "state"}
    shutil.copytree(root / "clips", tmp_path / "clips")
    (tmp_path / "clips" / "dataset_spec.json").write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="videos have one camera 'primary'.*found .*state_key 'state'"):
        opened(tmp_path)


def test_nothing_there(tmp_path):
    (tmp_path / "empty").mkdir()
    assert not video.is_videos(tmp_path / "empty") and not video.is_videos(tmp_path / "absent")
    with pytest.raises(DatasetError, match="empty"):
        opened(tmp_path, "empty")
