"""Random access to frames of a film: right whatever the order, and without decoding what is not needed."""

import sys

import numpy as np
import pytest
from lerobot_writer import FPS, frame, write_film

from data_pipelines.video import film as film_lib
from data_pipelines.video.film import Film, FilmPool, VideoError

NUM = 60


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    frames = [frame(0, step) for step in range(NUM)]
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", frames)


def shows(image, number):
    """Whether a picture is that frame and not one beside it."""
    errors = [
        np.abs(image.astype(int) - frame(0, n)).mean()
        for n in range(max(0, number - 2), min(NUM, number + 3))
    ]
    return min(range(len(errors)), key=errors.__getitem__) == min(2, number) and min(errors) < 12


def test_frames_in_any_order(path):
    film = Film(path)
    times = film.times()
    assert film.rate == FPS
    np.testing.assert_allclose(times, np.arange(NUM) / FPS, atol=1e-9)
    for number in np.random.default_rng(0).permutation(NUM).tolist():
        assert shows(film.frame_at(number / FPS, 0.5 / FPS), number)
    assert shows(film.frame(17), 17)


def test_what_is_not_needed_is_not_decoded(path, monkeypatch):
    grabs = []
    grab = film_lib._OpenCv.grab
    monkeypatch.setattr(film_lib._OpenCv, "grab", lambda self: grabs.append(1) or grab(self))
    film = Film(path)
    film.frame_at(5.0, 0.05)
    # OpenCV decodes on from the key frame by itself; here only frames that it hands out count.
    assert len(grabs) == 1
    film.frame_at(5.0, 0.05)
    assert len(grabs) == 1
    film.frame_at(5.4, 0.05)
    assert len(grabs) == 5


def test_a_seek_that_lands_too_late_is_mended(path, monkeypatch):
    seek = film_lib._OpenCv.seek
    monkeypatch.setattr(film_lib._OpenCv, "seek", lambda self, seconds: seek(self, seconds + 1.0))
    film = Film(path)
    for number in (20, 40, 3):
        assert shows(film.frame_at(number / FPS, 0.05), number)


@pytest.mark.parametrize("seconds", [6.0, 100.0])
def test_past_the_end_is_an_error(path, seconds):
    with pytest.raises(
        VideoError, match=rf"film.mp4: no frame at {seconds:.4f} s .*the last was at 5.9000 s"
    ):
        Film(path).frame_at(seconds, 0.05)


def test_between_frames_is_an_error(path):
    with pytest.raises(VideoError, match="no frame at 3.0500 s"):
        Film(path).frame_at(3.05, 0.01)


@pytest.mark.parametrize("content", [b"", b"no film at all" * 10, None])
def test_no_film(tmp_path, content):
    if content is not None:
        (tmp_path / "x.mp4").write_bytes(content)
    with pytest.raises(VideoError, match=r"x.mp4: (no such file|cannot be opened)"):
        Film(tmp_path / "x.mp4")


def test_a_pool_keeps_few_films_and_drops_one_that_failed(path):
    pool = FilmPool(max_idle=2)
    with pool.film(str(path)) as first, pool.film(str(path)) as second:
        assert first is not second
    with pool.film(str(path)) as again:
        assert again is second or again is first
    with pytest.raises(VideoError), pool.film(str(path)) as film:
        film.frame_at(100.0, 0.05)
    assert film not in pool._idle.values() and len(pool._idle) == 1
    with pool.film(str(path)) as a, pool.film(str(path)) as b, pool.film(str(path)) as c:
        assert len({a, b, c}) == 3
    assert len(pool._idle) == 2


def test_a_codec_that_opencv_lacks_names_the_package(path, monkeypatch):
    monkeypatch.setattr(film_lib, "NEEDS_AV", {"fmp4": "MPEG-4", "mp4v": "MPEG-4"})
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        VideoError, match=r"MPEG-4 video, which OpenCV does not decode; install PyAV .*lerobot"
    ):
        Film(path)


class TestPyAv:
    @pytest.fixture(autouse=True)
    def installed(self):
        self.av = pytest.importorskip("av")

    def test_it_gives_the_same_frames(self, path, monkeypatch):
        expected = {n: Film(path).frame_at(n / FPS, 0.05) for n in (0, 33, 20, 59)}
        monkeypatch.setattr(film_lib, "NEEDS_AV", {"fmp4": "MPEG-4", "mp4v": "MPEG-4"})
        film = Film(path)
        assert isinstance(film._decoder, film_lib._Av)
        np.testing.assert_allclose(film.times(), np.arange(NUM) / FPS, atol=1e-9)
        for number, image in expected.items():
            found = film.frame_at(number / FPS, 0.05)
            assert np.abs(found.astype(int) - image).mean() < 3 and shows(found, number)
        with pytest.raises(VideoError, match="no frame at 9.0000 s"):
            film.frame_at(9.0, 0.05)

    def test_av1(self, tmp_path):
        path = tmp_path / "av1.mp4"
        with self.av.open(str(path), "w") as container:
            stream = container.add_stream("libsvtav1", rate=int(FPS))
            stream.height, stream.width = 64, 96
            stream.pix_fmt, stream.options = "yuv420p", {"g": "2", "preset": "10"}
            for number in range(12):
                image = np.repeat(np.repeat(frame(0, number), 2, 0), 2, 1)
                container.mux(stream.encode(self.av.VideoFrame.from_ndarray(image, format="rgb24")))
            container.mux(stream.encode(None))
        film = Film(path)
        assert isinstance(film._decoder, film_lib._Av)
        for number in (11, 0, 5):
            assert shows(film.frame_at(number / FPS, 0.05)[::2, ::2], number)
