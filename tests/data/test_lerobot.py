"""LeRobot datasets of both layouts are read as they were written, and are refused with a reason."""

import json
import shutil
import subprocess
import sys
from concurrent import futures
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from lerobot_writer import CAMERAS, FPS, LENGTHS, NAMES, TASKS, frame, numbers, task_of, write_lerobot

from data_pipelines import dataset
from data_pipelines.dataset import Place, find_datasets, open_split
from data_pipelines.errors import DatasetError, NonFiniteError, RecordError
from data_pipelines.lerobot import dataset as lerobot
from data_pipelines.lerobot import rows as rows_lib
from data_pipelines.lerobot.info import Info
from data_pipelines.lerobot.spec import derived_spec, names_of
from data_pipelines.statistics import split_statistics
from data_pipelines.stream import open_stream
from data_pipelines.validate import validate
from data_pipelines.video import film as film_lib
from farsighted_jax.core.batch import check
from farsighted_jax.core.spec import to_dict

VERSIONS = ("v2.1", "v3.0")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lerobot")
    for version in VERSIONS:
        for pictures in ("video", "image"):
            write_lerobot(folder, version, f"{version}-{pictures}", pictures=pictures)
    return folder


def error_of(image, expected):
    return np.abs(image.astype(int) - expected).mean()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("pictures", ["video", "image"])
def test_what_was_written_is_read(root, version, pictures):
    split = open_split(root, f"{version}-{pictures}", "train")
    assert (split.num_episodes, split.version, split.spec.hz) == (len(LENGTHS), version, FPS)
    for episode in split.episodes():
        length = LENGTHS[episode.index]
        actions, states = numbers(episode.index, length)
        np.testing.assert_array_equal(episode.actions, actions)
        np.testing.assert_array_equal(episode.states, states)
        np.testing.assert_allclose(episode.timestamps, np.arange(length) / FPS, atol=1e-6)
        assert episode.instruction.decode() == TASKS[task_of(episode.index)]
        assert episode.metadata["episode_index"] == episode.index
        for camera, role in zip(CAMERAS, ("primary", "wrist"), strict=True):
            for step in (length - 1, 0, length // 2):
                found, expected = episode.rgb(step, role), frame(episode.index, step, camera)
                others = (frame(episode.index, abs(step - 1), camera), frame(episode.index + 1, step, camera))
                assert error_of(found, expected) < 12 < min(error_of(found, other) for other in others)
                if pictures == "image":
                    np.testing.assert_array_equal(found, expected)
        assert episode.depth(0) is None
        with pytest.raises(IndexError):
            episode.rgb(length)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_specification_says_what_was_assumed(root, version):
    split = open_split(root, f"{version}-video", "train")
    assert split.spec.action.names == split.spec.state_names == NAMES
    assert split.spec.action.groups == ("joint", "joint", "gripper") and not any(split.spec.action.delta)
    assert [(c.name, c.rgb_key) for c in split.spec.cameras] == [
        ("primary", CAMERAS[0]),
        ("wrist", CAMERAS[1]),
    ]
    assert "taken as absolute" in split.assumed
    assert dataset.spec_of(root, f"{version}-video") == split.spec


@pytest.mark.parametrize(
    ("cameras", "roles", "unused"),
    [
        (
            ("cam_high", "cam_left_wrist", "cam_low", "cam_right_wrist", "cam_back"),
            {"primary": 0, "secondary": 2, "wrist": 3, "left_wrist": 1},
            "cam_back",
        ),
        (("wrist_left", "exterior_1_left"), {"primary": 1, "wrist": 0}, ""),
        (("right_hand", "left_hand"), {"primary": 0, "left_wrist": 1}, ""),
        (("wrist_a", "top", "wrist_b"), {"primary": 1, "secondary": 2, "wrist": 0}, ""),
    ],
)
def test_cameras_get_their_roles_by_their_names(cameras, roles, unused):
    features = dict.fromkeys(cameras, {"dtype": "video", "shape": [8, 8, 3], "names": None})
    info = Info("arm", "v3.0", FPS, features, 1, 1, {"train": (0, 1)}, "", "", 1)
    found = derived_spec(info, "arm")
    assert {c.name: c.rgb_key for c in found.spec.cameras} == {
        role: cameras[at] for role, at in roles.items()
    }
    assert (f"['{unused}'] are left out" in found.assumed) == bool(unused)


def test_a_specification_beside_the_data_takes_precedence(tmp_path):
    folder = write_lerobot(tmp_path, "v2.1", lengths=(5, 5))
    values = to_dict(open_split(tmp_path, "arm", "train").spec)
    values["action"]["delta"] = [True, True, False]
    (folder / "dataset_spec.json").write_text(json.dumps(values))
    split = open_split(tmp_path, "arm", "train")
    assert split.spec.action.delta == (True, True, False) and split.assumed == ""
    values["cameras"][0]["rgb_key"] = "action"
    (folder / "dataset_spec.json").write_text(json.dumps(values))
    with pytest.raises(
        DatasetError, match=r"'arm': feature 'action': expected a feature of dtype .*found float32"
    ):
        open_split(tmp_path, "arm", "train")


def test_both_layouts_and_both_ways_to_store_pictures_give_the_same_batches(root):
    batches = []
    for version in VERSIONS:
        data = {"dir": str(root), "mixture": f"{version}-image", "split": "train", "resolution": 16}
        data |= {"offsets_s": (0.1, 0.3), "text_tokenizer": "bytes", "cameras": ("primary", "wrist")}
        stream = open_stream(data, batch_size=7, seed=0, train=False)
        batches.append(list(stream.epoch()))
        check(batches[-1][0], values=True)
        assert stream.num_windows == sum(length - 1 for length in LENGTHS)
    for first, second in zip(*batches, strict=True):
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_films_are_shared_by_threads(root):
    split = open_split(root, "v3.0-video", "train")
    places = [(e, s) for e, length in enumerate(LENGTHS) for s in range(0, length, 2)] * 2
    np.random.default_rng(0).shuffle(places)
    with futures.ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda place: split.episode(place[0]).rgb(place[1]), places))
    for (episode, step), image in zip(places, found, strict=True):
        assert error_of(image, frame(episode, step)) < 12
    assert len(split._shelf.films._idle) <= film_lib.MAX_IDLE


def test_only_the_row_groups_of_an_episode_are_read(root, monkeypatch):
    split = open_split(root, "v3.0-video", "train")
    read = []
    monkeypatch.setattr(rows_lib.RowReader, "_group", lambda s, path, group, c, f=rows_lib.RowReader._group: (
        read.append((path, group)), f(s, path, group, c))[1])  # fmt: skip
    split.episode(1)
    # Rows 12 to 20 of groups of eight.
    assert read == [("data/chunk-000/file-000.parquet", group) for group in (1, 2)]


def test_slices_and_declared_splits(tmp_path):
    write_lerobot(tmp_path, "v3.0", info={"splits": {"train": "0:3", "val": "3:5"}})
    assert dataset.split_names(Place(str(tmp_path), "arm")) == ["train", "val"]
    val = open_split(tmp_path, "arm", "val")
    assert [e.num_steps for e in val.episodes()] == list(LENGTHS[3:])
    part = open_split(tmp_path, "arm", "train[1:]")
    assert (part.first_episode, [e.num_steps for e in part.episodes()]) == (1, list(LENGTHS[1:3]))
    assert len({open_split(tmp_path, "arm", s).fingerprint for s in ("train", "val", "train[1:]")}) == 3
    assert part.whole_fingerprint == open_split(tmp_path, "arm", "train").fingerprint
    with pytest.raises(DatasetError, match=r"no split 'test'; it has \['train', 'val'\]"):
        open_split(tmp_path, "arm", "test")


def test_the_fingerprint_follows_content_not_place_or_time(tmp_path):
    folder = write_lerobot(tmp_path / "a", "v3.0")
    shutil.copytree(tmp_path / "a", tmp_path / "b", copy_function=shutil.copyfile)
    first = open_split(tmp_path / "a", "arm", "train").fingerprint
    assert open_split(tmp_path / "b", "arm", "train").fingerprint == first
    film = folder / f"videos/{CAMERAS[0]}/chunk-000/file-000.mp4"
    content = bytearray(film.read_bytes())
    content[-20] ^= 1
    film.write_bytes(content)
    assert open_split(tmp_path / "a", "arm", "train").fingerprint != first


def test_statistics_and_the_validator_work_on_it(root):
    place = Place(str(root), "v2.1-video")
    assert place in find_datasets(root) and find_datasets(root / "v2.1-video") == [place]
    split = open_split(root, "v2.1-video", "train")
    assert split_statistics(split).action.count == sum(LENGTHS)
    report = validate(place)
    assert [f.check for f in report.of("error")] == []
    assert any("taken as absolute" in f.found and "dataset_spec.json" in f.mend for f in report.of("warning"))


class TestRefused:
    def refused(self, root, match, **options):
        with pytest.raises(DatasetError, match=match):
            list(open_split(root, "arm", "train", **options).episodes())

    @pytest.mark.parametrize("version", ["v1.6", "v4.0", 3, None])
    def test_unknown_version(self, tmp_path, version):
        write_lerobot(tmp_path, "v3.0", info={"codebase_version": version})
        match = rf"info.json: codebase_version {version!r} is not known, expected one of .*'v2.1', 'v3.0'"
        self.refused(tmp_path, match)

    def test_another_version_than_asked_for(self, tmp_path):
        write_lerobot(tmp_path, "v3.0")
        self.refused(tmp_path, "expected version 'v2.1'.*found 'v3.0'", version="v2.1")

    @pytest.mark.parametrize(
        ("info", "match"),
        [
            ({"fps": 0}, "fps 0.0"),
            ({"fps": "fast"}, "malformed"),
            ({"total_episodes": 6}, "list 5 episodes, expected the numbers 0 to 5"),
            ({"total_frames": 1}, "54 frames together, expected total_frames 1"),
            ({"splits": {"train": "0:9"}}, "malformed.*split 'train' is '0:9'"),
            ({"splits": {"train": "all"}}, "malformed.*split 'train' is 'all'"),
            ({"data_path": "../{chunk_index}/{file_index}"}, "leads out of the dataset"),
            ({"data_path": "{episode_index}.parquet"}, "cannot be filled with"),
            ({"features": {"action": {"dtype": "float32", "shape": [3]}}}, "no camera"),
        ],
    )
    def test_malformed_info(self, tmp_path, info, match):
        write_lerobot(tmp_path, "v3.0", info=info)
        self.refused(tmp_path, match)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_missing_files(self, tmp_path, version):
        folder = write_lerobot(tmp_path, version)
        next(folder.glob("videos/**/*.mp4")).unlink()
        self.refused(tmp_path, r"1 of \d+ files that its tables name are missing: \['videos/")

    @pytest.mark.parametrize(("version", "table"), [("v2.1", "episodes.jsonl"), ("v3.0", "tasks.parquet")])
    def test_broken_tables(self, tmp_path, version, table):
        folder = write_lerobot(tmp_path, version)
        (folder / "meta" / table).write_text("[]\n")
        self.refused(tmp_path, table)

    @pytest.mark.parametrize("version", VERSIONS)
    def test_rows_of_another_episode(self, tmp_path, version):
        write_lerobot(
            tmp_path,
            version,
            edit=lambda e, c: c.update(episode_index=[7] * len(c["index"])) if e == 1 else None,
        )
        self.refused(tmp_path, r"'arm', episode 1.*hold episode\(s\) \[7\], expected 1")

    def test_a_file_that_ends_early(self, tmp_path):
        folder = write_lerobot(tmp_path, "v2.1")
        path = folder / "data/chunk-000/episode_000002.parquet"
        pq.write_table(pq.read_table(path).slice(0, 4), path)
        self.refused(tmp_path, "episode_000002.parquet.*episode 2.*4 rows, expected at least 15")

    def test_no_parquet(self, tmp_path):
        folder = write_lerobot(tmp_path, "v2.1")
        (folder / "data/chunk-000/episode_000002.parquet").write_bytes(b"nothing")
        self.refused(tmp_path, "episode_000002.parquet.*episode 2.*cannot be read as parquet")

    def test_not_a_number(self, tmp_path):
        def edit(episode, columns):
            if episode == 3:
                columns["action"][4] = np.array([0, np.nan, 0], np.float32)

        write_lerobot(tmp_path, "v3.0", edit=edit)
        with pytest.raises(
            NonFiniteError, match=r"episode 3\): step 4, key 'action': dimension 1 \(elbow.pos\) is nan"
        ):
            open_split(tmp_path, "arm", "train").episode(3)
        split = open_split(tmp_path, "arm", "train", on_corrupt="skip")
        assert split_statistics(split).skipped == {"not_finite": 1} and list(split.skipped) == [3]

    def test_an_unknown_task(self, tmp_path):
        write_lerobot(tmp_path, "v2.1", edit=lambda e, c: c.update(task_index=[9] * len(c["index"])))
        self.refused(tmp_path, "'task_index': 9 is none of the 2 tasks")

    def test_a_film_that_is_too_short_is_named_or_counted_by_cause(self, tmp_path):
        folder = write_lerobot(tmp_path, "v2.1")
        films = folder / "videos/chunk-000" / CAMERAS[0]
        shutil.copyfile(films / "episode_000003.mp4", films / "episode_000002.mp4")
        episode = open_split(tmp_path, "arm", "train").episode(2)
        assert episode.rgb(6).shape == (32, 48, 3)
        with pytest.raises(
            RecordError, match=r"episode_000002.mp4.*episode 2.*step 7, key .*no frame at 0.7000 s"
        ):
            episode.rgb(7)
        data = {
            "dir": str(tmp_path),
            "mixture": "arm",
            "split": "train",
            "resolution": 16,
            "offsets_s": (0.1,),
        }
        stream = open_stream({**data, "on_corrupt": "skip"}, batch_size=7, seed=0, train=False)
        list(stream.epoch())
        # Steps 7 to 14 are missing, each is frame 0 once (the last is not) and frame 1 once.
        assert stream.counts["arm"]["unread_frames_for"] == {"video": 7 + 8}

    def test_no_film(self, tmp_path):
        folder = write_lerobot(tmp_path, "v2.1")
        (folder / "videos/chunk-000" / CAMERAS[0] / "episode_000002.mp4").write_bytes(b"nothing")
        with pytest.raises(RecordError, match="episode_000002.mp4: cannot be opened as a video"):
            open_split(tmp_path, "arm", "train").episode(2).rgb(0)

    def test_remote_folders_are_left_to_rlds(self, tmp_path):
        assert dataset._format("gs://bucket", "arm") is dataset.rlds
        write_lerobot(tmp_path, "v2.1")
        assert dataset._format(tmp_path, "arm") is lerobot


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y"], ("x", "y")),
        ({"motors": ["x", "y"]}, ("x", "y")),
        ({"y": 1, "x": 0}, ("x", "y")),
        (None, ("a0", "a1")),
        (["x"], ("a0", "a1")),
        (["x", "x"], ("a0", "a1")),
        ({"left": ["x"], "right": ["y"]}, ("a0", "a1")),
    ],
)
def test_names_of_dimensions(names, expected):
    assert names_of({"shape": [2], "names": names}, "a") == expected


def test_reading_imports_neither_tensorflow_nor_jax(root):
    code = (
        "import sys\nfrom data_pipelines.dataset import open_split\n"
        f"open_split({str(root)!r}, 'v3.0-video', 'train').episode(0).rgb(0)\n"
        "print([name for name in ('tensorflow', 'jax', 'flax', 'torch', 'pandas') if name in sys.modules])\n"
    )
    place = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=place, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
