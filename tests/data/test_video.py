import cv2
import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.clips import ClipError, EpisodeFrames, clip_batch, clip_starts
from data_pipelines.frame import Preprocessing, prepare_rgb
from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream
from data_pipelines.trajectory import KeyframeError
from data_pipelines.video.reader import VideoError, find_videos, open_video
from farsighted_jax.core.batch import check

FPS, NUM, SIZE = 10.0, 14, (24, 32)


def smooth_frames(num=NUM):
    """Coarse colour fields that change from frame to frame; compression keeps those."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(40, 216, (num, 3, 4, 3), np.uint8)
    return [cv2.resize(c, SIZE[::-1], interpolation=cv2.INTER_CUBIC) for c in coarse]


def write_film(path, frames, fps=FPS):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), fps, SIZE[::-1])
    for frame in frames:
        writer.write(frame[..., ::-1])
    writer.release()
    return path


def write_folder(path, frames):
    path.mkdir()
    for index, frame in enumerate(frames):
        # Not padded: the tenth must come after the second.
        cv2.imwrite(str(path / f"frame_{index}.png"), frame[..., ::-1])
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder, frames = tmp_path_factory.mktemp("videos"), smooth_frames()
    return folder, frames, write_film(folder / "film.mp4", frames), write_folder(folder / "pictures", frames)


def test_a_folder_gives_its_pictures_in_numerical_order(videos):
    _, frames, _, folder = videos
    source = open_video(folder, FPS)
    batch = clip_batch(source, [0, 7], (0.2, 0.6), Preprocessing(16))
    check(batch, values=True)
    expected = [[0, 2, 6], [7, 9, 13]]
    for row, indices in enumerate(expected):
        for column, index in enumerate(indices):
            np.testing.assert_array_equal(
                batch["rgb"][row, column], prepare_rgb(frames[index], Preprocessing(16))
            )
    np.testing.assert_allclose(batch["time_s"], [[0, 0.2, 0.6]] * 2, atol=1e-6)
    assert batch["step"].tolist() == [0, 7] and batch["frame_valid"].all()


def test_film_and_folder_agree_up_to_compression(videos):
    _, _, film, folder = videos
    film, folder = open_video(film), open_video(folder, FPS)
    assert (film.hz, film.num_frames) == (folder.hz, folder.num_frames) == (FPS, NUM)
    starts = clip_starts(film, (0.1, 0.3), every_s=0.1)
    assert starts == clip_starts(folder, (0.1, 0.3), every_s=0.1) == range(0, 11)
    found, expected = (clip_batch(s, starts, (0.1, 0.3), Preprocessing(16)) for s in (film, folder))
    difference = np.abs(found["rgb"].astype(int) - expected["rgb"]).mean(axis=(2, 3, 4))
    other = np.abs(found["rgb"].astype(int) - np.roll(expected["rgb"], 1, axis=0)).mean(axis=(2, 3, 4))
    assert difference.max() < 12 < other.min()


def test_film_frames_do_not_depend_on_the_order_they_are_asked_for(videos):
    film = open_video(videos[2])
    forward = {i: film.prepared([i], Preprocessing(8))["rgb"][0] for i in range(NUM)}
    fresh = open_video(videos[2])
    for index in (13, 5, 6, 0, 9):
        np.testing.assert_array_equal(fresh.prepared([index], Preprocessing(8))["rgb"][0], forward[index])


def test_frames_past_the_end_are_masked(videos):
    batch = clip_batch(open_video(videos[3], FPS), [10, 13], (0.2, 0.6), Preprocessing(8))
    np.testing.assert_array_equal(batch["frame_valid"], [[1, 1, 0], [1, 0, 0]])
    assert not batch["rgb"][~batch["frame_valid"]].any() and batch["time_s"][1].tolist() == [0, 0, 0]


def test_clips_follow_each_other_or_come_at_a_stride(videos):
    source = open_video(videos[3], FPS)
    assert clip_starts(source, (0.1, 0.5)) == range(0, 9, 5)
    assert clip_starts(source, (0.5,), every_s=0.3, first=2) == range(2, 9, 3)
    with pytest.raises(ClipError, match=r"pictures.*every 0.01 s.*0.1 s"):
        clip_starts(source, (0.1,), every_s=0.01)


def test_a_single_picture_is_a_video_of_one_frame(videos):
    source = open_video(videos[3] / "frame_3.png")
    np.testing.assert_array_equal(
        source.prepared([0], Preprocessing(16))["rgb"][0], prepare_rgb(videos[1][3], Preprocessing(16))
    )
    assert source.num_frames == 1


def test_videos_are_found_in_a_folder(videos, tmp_path):
    folder, _, film, pictures = videos
    assert find_videos(folder) == [film, pictures]
    assert find_videos(film) == [film] and find_videos(pictures) == [pictures]
    with pytest.raises(VideoError, match="no video in it"):
        find_videos(tmp_path)


def test_unusable_videos_are_named_with_what_is_needed(videos, tmp_path, capfd):
    _, frames, film, pictures = videos
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(film.read_bytes()[:200])
    spoiled = write_folder(tmp_path / "spoiled", frames[:3])
    (spoiled / "frame_1.png").write_bytes(b"no picture")
    (tmp_path / "empty").mkdir()
    for path, fps, message in (
        (broken, None, "broken.mp4: .*video"),
        (tmp_path / "absent.mp4", None, "absent.mp4: no such file"),
        (pictures, None, r"pictures: .*frame rate.*--fps"),
        (tmp_path / "empty", 5.0, "empty: no picture"),
        (film, -1.0, "fps is -1.0"),
    ):
        with pytest.raises(VideoError, match=message):
            open_video(path, fps)
    with pytest.raises(VideoError, match="frame_1.png: cannot decode"):
        clip_batch(open_video(spoiled, FPS), [0], (0.1,), Preprocessing(8))
    short = open_video(pictures, FPS)
    with pytest.raises(ClipError, match=r"14 frames at 10 Hz.*\(0.5, 2.0\) s need at least 21 frames"):
        clip_starts(short, (0.5, 2.0))
    with pytest.raises(KeyframeError, match="pictures.*0.01"):
        clip_starts(short, (0.01,))


def test_an_episode_gives_the_clips_of_the_training_stream(tmp_path):
    write_rlds(tmp_path, depth="tensor", lengths={"train": (6, 4), "val": (3,)})
    data = {
        "dir": str(tmp_path),
        "mixture": "tiny",
        "split": "train",
        "resolution": 8,
        "offsets_s": (0.2, 0.6),
    }
    stream = open_stream(data, batch_size=8, seed=0, train=False)
    (expected,) = stream.epoch()
    split = open_split(tmp_path, "tiny", "train")
    depth = tuple(stream.statistics["tiny"]["depth"])
    rows = [clip_batch(EpisodeFrames(split, e, depth=depth), range(n), (0.2, 0.6), Preprocessing(8))
            for e, n in ((0, 5), (1, 3))]  # fmt: skip
    for name in rows[0]:
        found = np.concatenate([row[name] for row in rows])
        np.testing.assert_array_equal(found, expected[name], err_msg=name)
