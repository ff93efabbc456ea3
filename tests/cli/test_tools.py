"""encode, decode, transfer and retrieve: files, pictures and films that agree with the model."""

import argparse
import dataclasses
import json
import re
import types

import cv2
import numpy as np
import pytest

from data_pipelines.clips import clip_starts
from farsighted_jax.cli import clips, code_files, decode, encode, main, retrieve, transfer
from farsighted_jax.core.batch import check
from farsighted_jax.lam.inference import CodeError
from farsighted_jax.lam.retrieval import NearestClips, RetrievalError
from farsighted_jax.viz import film

FPS = 5.0

pytestmark = pytest.mark.usefixtures("loaded_once")


def read(path):
    return cv2.imread(str(path))[..., ::-1]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory, tool_videos, tool_model):
    """Codes of the first validation episode, as JSON and as npz."""
    patch = pytest.MonkeyPatch()
    patch.setattr(clips, "load_model", lambda *args, **kwargs: tool_model)
    folder = tmp_path_factory.mktemp("encoded")
    for name in ("codes.json", "codes.npz"):
        encode.run(folder / name, "", str(tool_videos / "ep0"), FPS, every_s=0.2)
    patch.undo()
    return folder


def test_both_code_files_hold_the_models_codes(encoded, tool_videos, tool_model):
    source, _ = tool_model.open(str(tool_videos / "ep0"), FPS)
    starts = clip_starts(source, tool_model.offsets_s, every_s=0.2)
    assert starts == range(0, 3)
    expected = tool_model.actions.encode_rows(tool_model.clips(source, starts), 4)
    for name in ("codes.json", "codes.npz"):
        found = code_files.read_codes(encoded / name, tool_model.describe())
        np.testing.assert_array_equal(found.code_BtZ, expected["code"])
        np.testing.assert_allclose(found.time_s_Bt, [[0.2, 0.6]] * 3, atol=1e-6)
        assert found.start_B.tolist() == [0, 1, 2] and found.source["num_frames"] == 6
    with np.load(encoded / "codes.npz", allow_pickle=False) as arrays:
        np.testing.assert_array_equal(arrays["quantized"], tool_model.actions.vectors(expected["code"]))
    lines = (encoded / "codes.json").read_text().splitlines()
    assert sum('"codes"' in line for line in lines) == 3, "a clip a line"


def test_a_model_that_reads_depth_sees_none_in_a_video(tool_model, tool_videos, tool_data):
    fields = ("rgb", "time_s", "depth", "depth_valid")
    run = dataclasses.replace(tool_model.run, task=types.SimpleNamespace(fields=fields))
    fused = dataclasses.replace(tool_model, run=run)
    _, video = fused.one_clip(str(tool_videos / "ep0"), FPS)
    _, episode = fused.one_clip(f"rlds:{tool_data}/tiny:val:0")
    assert video["depth"].shape == episode["depth"].shape == (1, 3, 16, 16, 1)
    assert not video["depth_valid"].any() and episode["depth_valid"].any()
    check(video, values=True)


def test_the_sheet_of_codes_shows_every_keyframe(encoded, tool_videos, tool_model):
    sheet = read(encoded / "codes.png")
    _, clip = tool_model.one_clip(str(tool_videos / "ep0"), FPS)
    shown = np.repeat(np.repeat(clip["rgb"][0, 1], 8, axis=0), 8, axis=1)
    assert contains(sheet, shown)


def contains(sheet, picture):
    """Whether a picture stands somewhere in a sheet, to one level of brightness."""
    match = cv2.matchTemplate(np.ascontiguousarray(sheet), np.ascontiguousarray(picture), cv2.TM_SQDIFF)
    # The match is summed in float32, so it tells where to look and not whether all is equal.
    row, column = np.unravel_index(match.argmin(), match.shape)
    found = sheet[row : row + picture.shape[0], column : column + picture.shape[1]]
    return np.abs(found.astype(int) - picture).max() <= 1


def test_an_episode_gives_the_codes_of_its_pictures(encoded, tmp_path, tool_data, tool_model):
    encode.run(tmp_path / "e.json", "", f"rlds:{tool_data}/tiny:val:0", every_s=0.2)
    encode.run(tmp_path / "s.json", "", f"rlds:{tool_data}/tiny:val:0:1", every_s=0.2)
    found, later, expected = (
        code_files.read_codes(path, tool_model.describe()).code_BtZ
        for path in (tmp_path / "e.json", tmp_path / "s.json", encoded / "codes.json")
    )
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(later, expected[1:])


def test_decoding_a_file_equals_decoding_the_models_own_vectors(encoded, tmp_path, tool_videos, tool_model):
    picture = tool_videos / "ep1" / "2.png"
    out = decode.run(tmp_path / "d.png", "", str(picture), encoded / "codes.json", clip=1)
    _, clip = tool_model.one_clip(str(tool_videos / "ep0"), FPS)
    first = tool_model.first_frame(str(picture))
    codes = code_files.read_codes(encoded / "codes.json", tool_model.describe())
    decoded = tool_model.decoded(first, clip["time_s"][:, 1:], codes.code_BtZ[1:2])
    for k in range(2):
        shown = np.rint(decoded["rgb"][0, k] * 255).astype(np.uint8)
        assert contains(read(out), np.repeat(np.repeat(shown, 8, axis=0), 8, axis=1))
    both = read(decode.run(tmp_path / "all.png", "", str(picture), encoded / "codes.npz"))
    assert both.shape[0] > 2 * read(out).shape[0] - 100, "three clips, each with a row of depth"


def test_a_decoded_film_lasts_long_enough_and_shows_depth_beside(encoded, tmp_path, tool_videos, read_film):
    out = decode.run(tmp_path / "d.mp4", "", str(tool_videos / "ep1"), encoded / "codes.json", clip=0)
    frames, fps = read_film(out)
    assert frames.shape[1:] == (128, 256, 3) and 2.5 < len(frames) / fps < 4
    assert np.abs(frames[0].astype(int) - frames[6]).mean() > 1


def test_transfer_moves_the_target_by_the_codes_of_the_source(tmp_path, tool_videos, tool_model, read_film):
    source, target = str(tool_videos / "ep0"), str(tool_videos / "ep1" / "0.png")
    out = transfer.run(tmp_path / "t.png", "", source, target, FPS)
    _, clip = tool_model.one_clip(source, FPS)
    code = tool_model.actions.encode_rows(clip, 4)["code"]
    decoded = tool_model.decoded(tool_model.first_frame(target), clip["time_s"][:, 1:], code)
    shown = np.rint(decoded["rgb"][0, 1] * 255).astype(np.uint8)
    assert contains(read(out), np.repeat(np.repeat(shown, 8, axis=0), 8, axis=1))
    frames, _ = read_film(transfer.run(tmp_path / "t.mp4", "", source, target, FPS))
    assert frames.shape[1:] == (128, 5 * 128, 3), "A, A from its codes, B moved, and two maps of depth"


def flags(**changes):
    known = {"checkpoint": "", "query": "", "data": None, "mixture": None, "split": "train", "videos": None}
    known |= {"fps": FPS, "every": None, "k": 2, "out": "", "step": None}
    known |= {"vectors": "quantized", "one_per_video": False, "labels": None}
    return argparse.Namespace(**known | changes)


def test_retrieval_finds_the_same_clip_elsewhere_and_leaves_the_query_out(tmp_path, tool_videos, tool_data):
    query = f"rlds:{tool_data}/tiny:val:0:1"
    out = tmp_path / "r.png"
    found = retrieve.run(flags(query=query, videos=[str(tool_videos)], out=str(out), vectors="encoded"))
    nearest, second = found["clips"]
    assert (nearest["name"], nearest["start"], nearest["distance"]) == (str(tool_videos / "ep0"), 1, 0)
    assert 0 < second["distance"] and found["candidates"] == 3
    assert json.loads(out.with_suffix(".json").read_text()) == found and read(out).std() > 20
    searched = retrieve.run(flags(query=query, out=str(out), k=99))
    assert searched["candidates"] == 6 + 2 + 1 and len(searched["clips"]) == 9
    distances = [entry["distance"] for entry in searched["clips"]]
    assert distances == sorted(distances)


def test_retrieval_leaves_out_the_query_and_clips_that_are_too_short(tmp_path, tool_videos):
    query, out = str(tool_videos / "ep0"), str(tmp_path / "r.png")
    with pytest.raises(RetrievalError, match="no candidate clip"):
        retrieve.run(flags(query=query, videos=[str(tool_videos)], out=out))
    once = retrieve.run(flags(query=query, out=out, k=5, one_per_video=True))
    assert {entry["name"] for entry in once["clips"]} == {f"tiny:train:{i}" for i in (0, 1, 3)}
    assert len(once["clips"]) == 3


def test_nearest_clips_equal_a_sort_over_all_in_any_batches():
    rng = np.random.default_rng(0)
    vectors, query = rng.normal(size=(30, 2, 3, 4)), rng.normal(size=(2, 3, 4))
    expected = np.sqrt(np.square(vectors - query).reshape(30, -1).mean(axis=1))

    @dataclasses.dataclass
    class Source:
        name: str
        hz: float = 5.0

    def search(sizes, **options):
        nearest, first = NearestClips(query, 4, **options), 0
        for number, size in enumerate(sizes):
            starts, chosen = range(first, first + size), slice(first, first + size)
            nearest.add(Source(f"video {number}"), starts, vectors[chosen], np.zeros((size, 2, 3), int))
            first += size
        assert nearest.num_seen == 30 and nearest.mean_distance == pytest.approx(expected.mean())
        return nearest.result()

    order = np.argsort(expected)
    for sizes in ((30,), (1, 29), (10, 10, 10)):
        assert [entry["start"] for entry in search(sizes)] == order[:4].tolist()
    vectors[:] = query
    expected = np.zeros(30)
    assert [entry["start"] for entry in search((10, 10, 10), one_a_source=True)] == [0, 10, 20]
    vectors[:] = rng.normal(size=vectors.shape)
    expected = np.sqrt(np.square(vectors - query).reshape(30, -1).mean(axis=1))
    best = search((10, 10, 10), one_a_source=True)
    assert [entry["start"] for entry in best] == sorted(
        (int(part[expected[part].argmin()]) for part in np.split(np.arange(30), 3)), key=expected.__getitem__
    )


def test_frames_of_a_film_are_held_until_the_next_is_due(tmp_path, read_film):
    images = [np.full((9, 12, 3), level, np.uint8) for level in (40, 120, 200)]
    frames = film.held(images, np.array([0.0, 0.2, 0.6]), fps=10.0)
    assert [frame[0, 0, 0] for frame in frames] == [40] * 2 + [120] * 4 + [200] * 4
    shown, fps = read_film(film.write_mp4(tmp_path / "new" / "f.mp4", frames, 10.0))
    assert shown.shape == (10, 10, 12, 3) and fps == 10
    np.testing.assert_allclose(shown[[0, 3, 9], 4, 6, 1], [40, 120, 200], atol=12)
    with pytest.raises(film.FilmError, match="no frame"):
        film.write_mp4(tmp_path / "none.mp4", [], 10.0)


def test_codes_of_another_model_or_size_are_refused(encoded, tmp_path, tool_model):
    path, about = encoded / "codes.json", tool_model.describe()
    with pytest.raises(code_files.CodeFileError, match="codes of the model .* but the checkpoint is ffff"):
        code_files.read_codes(path, {**about, "digest": "f" * 64})
    broken = tmp_path / "broken.json"
    broken.write_text(path.read_text().replace('"codes"', '"coeds"'))
    with pytest.raises(code_files.CodeFileError, match="broken.json.*codes"):
        code_files.read_codes(broken, about)
    with pytest.raises(CodeError, match="2 slots.*3"):
        tool_model.actions.vectors(np.zeros((1, 2, 2), int))
    with pytest.raises(CodeError, match=r"\[0, 7\], expected \[0, 6\]"):
        tool_model.actions.vectors(np.array([[[0, 1, 7]]]))


@pytest.mark.parametrize(
    ("arguments", "status", "named"),
    [
        (["encode", "--video", "{videos}/ep0", "--out", "c.json"], 1, "ep0.*--fps"),
        (["encode", "--video", "{videos}/absent.mp4", "--out", "c.json"], 1, "absent.mp4"),
        (["encode", "--video", "{videos}/ep1", "--fps", "5", "--out", "c.json"], 1, "ep1.*at least 4 frames"),
        (["encode", "--video", "rlds:{data}/tiny", "--out", "c.json"], 1, "rlds:DIR/NAME:SPLIT:EPISODE"),
        (["encode", "--video", "rlds:{data}/tiny:val:7", "--out", "c.json"], 1, "2 episodes"),
        (["encode", "--video", "{videos}/ep0", "--out", "c.txt"], 1, "c.txt.*.json"),
        (["encode", "--vidoe", "x", "--video", "x", "--out", "c.json"], 2, "--video"),
        (["transfer", "--source", "x", "--target", "y", "--out", "t.gif"], 1, "t.gif.*.mp4"),
        (["decode", "--image", "x", "--codes", "absent.json", "--out", "d.png"], 1, "absent.json"),
        (["label", "--out", "o", "--shards", "0"], 2, "--shards is 0"),
        (["retrieve", "--query", "x", "-k", "0", "--out", "r.png"], 2, "-k is 0"),
        (["retrieve", "--query", "x", "--labels", "l", "--videos", "v", "--out", "r.png"], 2, "--videos"),
        (
            ["retrieve", "--query", "x", "--labels", "l", "--vectors", "encoded", "--out", "r.png"],
            2,
            "--labels holds codes alone",
        ),
    ],
)
def test_mistakes_end_with_one_line(
    arguments, status, named, tool_videos, tool_data, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    words = [word.format(videos=tool_videos, data=tool_data) for word in arguments]
    try:
        found = main.main([words[0], "--checkpoint", "w", *words[1:]])
    except SystemExit as exit:
        found = exit.code
    error = capsys.readouterr().err
    assert found == status and error.count("\n") == 1
    assert re.search(named, error), error
    assert not list(tmp_path.iterdir())
