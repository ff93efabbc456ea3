"""Stored tokens: each frame has its own, in order and whole or not at all; those of others are refused."""

import json
import shutil

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines import every_frame, image_features
from data_pipelines.clips import EpisodeFrames
from data_pipelines.errors import RecordError
from data_pipelines.frame import Preprocessing
from data_pipelines.image_features import (
    ABOUT,
    FrameTokens,
    ImageFeatureError,
    ImageFeatureWriter,
    described,
    split_folder,
)
from data_pipelines.rlds import open_split
from data_pipelines.stored_tokens import StoredTokens
from data_pipelines.stream import open_stream
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError

N, E = 4, 3
LENGTHS = {"one": (6, 5, 2, 7), "two": (4, 5)}
ENCODER = {"encoder": "dinov2-tiny", "digest": "d" * 64, "dtype": "float32", "num_tokens": N, "width": E}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds")
    for name, lengths in LENGTHS.items():
        write_rlds(folder, name, lengths={"train": lengths, "val": (3,)}, wrist=True)
    return folder


def token(dataset, episode, step):
    """Tokens that tell where they belong."""
    return (len(dataset) + 1 + 1000 * episode + 100 * step + np.arange(N * E)).astype(np.uint16).reshape(N, E)


def frames(name, lengths, episodes, unreadable=()):
    for episode in episodes:
        for step in range(lengths[episode]):
            readable = (episode, step) not in unreadable
            yield FrameTokens(episode, step, token(name, episode, step) if readable else None)


def writer_of(folder, root, name="one", *, camera="primary", resolution=8, **encoder):
    split = open_split(root, name, "train")
    about = described(split, camera, Preprocessing(resolution), ENCODER | encoder)
    return ImageFeatureWriter(folder, split, np.array(LENGTHS[name]), about)


def write_features(folder, root, name="one", unreadable=(), **changes):
    writer = writer_of(folder, root, name, **changes)
    for shard in range(writer.num_shards):
        writer.write(shard, frames(name, LENGTHS[name], writer.episodes(shard), unreadable))
    assert writer.is_complete()
    return folder


@pytest.fixture(scope="module")
def features(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    with pytest.MonkeyPatch.context() as patch:
        # Three shards of the first dataset.
        patch.setattr(image_features, "SHARD_BYTES", 7 * N * E * 2)
        for name in LENGTHS:
            write_features(folder, root, name)
    return folder


def opened(root, features, mixture="one,two", **changes):
    data = {"dir": str(root), "mixture": mixture, "split": "train", "resolution": 8, "offsets_s": (0.2, 0.6)}
    return open_stream(data | {"image_features": str(features)} | changes, batch_size=8, seed=3)


def assert_aligned(batch, names, first_episode=0):
    for row in np.flatnonzero(batch["dataset"] >= 0):
        name, episode = names[batch["dataset"][row]], int(batch["episode"][row]) + first_episode
        for k, offset in enumerate((0, 1, 3)):
            there = bool(batch["frame_valid"][row, k])
            expected = token(name, episode, batch["step"][row] + offset) if there else np.zeros((N, E))
            np.testing.assert_array_equal(batch["image_token"][row, k], expected)
    assert not batch["image_token"][batch["dataset"] < 0].any()


def test_a_row_has_the_tokens_of_its_frames(root, features):
    stream = opened(root, features)
    assert stream.image_features == ENCODER
    for batch in stream.epoch(readers=2, prefetch=2):
        sizes = check(batch, values=True)
        assert (sizes["N"], sizes["E"]) == (N, E)
        assert_aligned(batch, stream.names)
    batch = stream.batch(0)
    assert_aligned(batch, stream.names)
    assert set(batch["dataset"]) == {0, 1} and not batch["frame_valid"].all()


def test_a_slice_keeps_its_tokens(root, features):
    stream = opened(root, features, "one", split="train[2:]")
    for batch in stream.epoch(readers=1, prefetch=1):
        assert_aligned(batch, stream.names, first_episode=2)


def test_without_a_folder_the_rest_is_the_same(root, features):
    stream, plain = opened(root, features), opened(root, "")
    batch, bare = stream.batch(1), plain.batch(1)
    assert batch.keys() - bare.keys() == {"image_token"} and plain.image_features is None
    for name in bare:
        np.testing.assert_array_equal(batch[name], bare[name], err_msg=name)
    assert stream.fingerprint != plain.fingerprint


def test_tokens_of_other_weights_are_other_data_and_other_shards_are_not(root, features, tmp_path):
    other = write_features(tmp_path / "other", root, digest="e" * 64)
    same = write_features(tmp_path / "same", root)
    prints = [opened(root, folder, "one").fingerprint for folder in (features, same, other)]
    assert prints[0] == prints[1] != prints[2]


def test_a_killed_writer_goes_on_and_hosts_share_the_shards(root, features, tmp_path, monkeypatch):
    monkeypatch.setattr(image_features, "SHARD_BYTES", 7 * N * E * 2)
    writer = writer_of(tmp_path, root)
    assert writer.num_shards == 3

    def killed(shard):
        yield from list(frames("one", LENGTHS["one"], writer.episodes(shard)))[:2]
        raise KeyboardInterrupt

    writer.write(2, frames("one", LENGTHS["one"], writer.episodes(2)))
    with pytest.raises(KeyboardInterrupt):
        writer.write(1, killed(1))
    assert [writer_of(tmp_path, root).is_done(shard) for shard in range(3)] == [False, False, True]
    with pytest.raises(ImageFeatureError, match="shard 0 of 3 is not done.*the same --out, which goes on"):
        opened(root, tmp_path, "one")
    for shard in (1, 0):
        writer_of(tmp_path, root).write(shard, frames("one", LENGTHS["one"], writer.episodes(shard)))
    expected = {path.name: path.read_bytes() for path in split_folder(features, "one", "train").iterdir()}
    assert {path.name: path.read_bytes() for path in writer.folder.iterdir()} == expected
    path = writer.folder / "tokens-00001-of-00003.array_record"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [writer.is_done(shard) for shard in range(3)] == [True, False, True]


def test_what_is_written_is_every_frame_in_order_or_nothing(root, tmp_path):
    writer, lengths = writer_of(tmp_path, root), LENGTHS["one"]
    whole = list(frames("one", lengths, range(4)))
    wrong_shape = whole[0]._replace(token_NE=np.zeros((N, E + 1), np.uint16))
    for given, named in (
        (whole[:-1], r"no frame for \(episode, step\) \(3, 6\)"),
        (whole[1:], r"got \(episode, step\) \(0, 1\), expected \(0, 0\)"),
        ([*whole, whole[-1]], "expected None"),
        ([wrong_shape, *whole[1:]], r"uint16\[4, 4\], expected uint16\[4, 3\]"),
    ):
        with pytest.raises(ImageFeatureError, match=named):
            writer.write(0, given)
        assert [path.name for path in writer.folder.iterdir()] == [ABOUT]


def test_a_folder_is_gone_on_with_only_by_what_made_it(root, features, tmp_path):
    with pytest.raises(ImageFeatureError, match="encoder.digest: 'dddd.*' -> 'eeee.*another --out"):
        writer_of(features, root, digest="e" * 64)
    split = open_split(root, "one", "train[1:]")
    about = described(split, "primary", Preprocessing(8), ENCODER)
    with pytest.raises(ImageFeatureError, match=r"'train\[1:\]' is a slice"):
        ImageFeatureWriter(tmp_path, split, np.array([5, 2, 7]), about)
    for call in (lambda: writer_of("gs://b/f", root), lambda: opened(root, "gs://b/f", "one")):
        with pytest.raises(ImageFeatureError, match="gs://b/f: .* local folders"):
            call()


@pytest.mark.parametrize(
    ("written", "changes", "named"),
    [
        ({"resolution": 12}, {}, "preprocessing.resolution: 12 -> 8"),
        ({"camera": "wrist"}, {}, "source.camera: 'wrist' -> 'primary'"),
        ({}, {"camera": "wrist"}, "source.camera: 'primary' -> 'wrist'"),
        ({}, {"split": "val"}, "no image features of one:val there.*farsighted image-features.*--split val"),
    ],
)
def test_tokens_of_other_frames_are_refused(root, tmp_path, written, changes, named):
    write_features(tmp_path, root, **written)
    with pytest.raises(ImageFeatureError, match=named):
        opened(root, tmp_path, "one", **changes)


def test_tokens_of_another_dataset_of_that_name_are_refused(root, features, tmp_path):
    write_rlds(tmp_path, "one", lengths={"train": (6, 5, 2, 8)}, wrist=True)
    with pytest.raises(ImageFeatureError, match="source.fingerprint: '.*' -> '"):
        opened(tmp_path, features, "one")


def test_datasets_of_two_encoders_are_refused(root, tmp_path):
    write_features(write_features(tmp_path, root), root, "two", digest="e" * 64)
    with pytest.raises(ImageFeatureError, match="'one' and of 'two' .*digest: 'dddd.*' -> 'eeee"):
        opened(root, tmp_path)


@pytest.mark.parametrize("augmentation", [{"shift": 0.1}, {"jitter": 0.1}])
def test_tokens_are_of_images_that_are_not_augmented(root, features, augmentation):
    assert "image_token" in opened(root, features, "one", augment=True).batch(0)
    with pytest.raises(ConfigError, match="'data.image_features' is .*expected data.augment=False"):
        opened(root, features, "one", augment=True, **augmentation)


def test_damage_is_found(root, features, tmp_path):
    folder = split_folder(shutil.copytree(features, tmp_path / "copy"), "one", "train")
    path, receipt = (folder / f"tokens-00001-of-00003.{end}" for end in ("array_record", "json"))
    content, written = path.read_bytes(), json.loads(receipt.read_text())

    def refused(error, named):
        with pytest.raises(error, match=named):
            for _ in opened(root, tmp_path / "copy", "one").epoch(readers=1, prefetch=1):
                pass

    receipt.write_text(json.dumps(written | {"lengths": [4]}))
    refused(ImageFeatureError, "tokens of 4 steps of episode 1, expected 5")
    receipt.write_text(json.dumps(written))
    path.write_bytes(content[:-1])
    refused(ImageFeatureError, f"{len(content) - 1} bytes, expected {len(content)}")
    flipped = bytearray(content)
    flipped[content.index(token("one", 1, 2).tobytes())] ^= 1
    path.write_bytes(flipped)
    refused(RecordError, "00001-of-00003.array_record: record 2")
    with pytest.MonkeyPatch.context() as patch:
        # Episode and step read otherwise than they were written.
        patch.setattr(image_features, "HEADER", np.dtype(">i4"))
        write_features(tmp_path / "other", root)
    shutil.rmtree(folder)
    shutil.copytree(split_folder(tmp_path / "other", "one", "train"), folder)
    refused(RecordError, r"holds \(episode, step\) .*, expected \(0, 1\)")
    (folder / ABOUT).write_text("{}")
    refused(ImageFeatureError, "no image features of one:train there.*KeyError")


def test_a_frame_that_had_none_is_masked_or_ends_the_run(root, tmp_path):
    write_features(tmp_path, root, unreadable={(0, 3)})
    with pytest.raises(RecordError, match="no tokens: step 3 of episode 0 could not be read"):
        for _ in opened(root, tmp_path, "one").epoch(readers=1, prefetch=1):
            pass
    seen = 0
    for batch in opened(root, tmp_path, "one", on_corrupt="skip").epoch(readers=1, prefetch=1):
        for row in np.flatnonzero((batch["dataset"] == 0) & (batch["episode"] == 0)):
            for k, offset in enumerate((0, 1, 3)):
                if batch["step"][row] + offset == 3:
                    seen += 1
                    assert not batch["frame_valid"][row, k] and not batch["image_token"][row, k].any()
                    assert not batch["rgb"][row, k].any()
    assert seen == 3


def test_every_frame_comes_once_as_batches_have_it(root, monkeypatch):
    monkeypatch.setattr(every_frame, "_PIECE", 3)
    split, preprocessing = open_split(root, "one", "train"), Preprocessing(8)
    found = every_frame.every_frame(
        split, LENGTHS["one"], (0, 3), camera="wrist", preprocessing=preprocessing, readers=2
    )
    found = list(found)
    assert [frame[:2] for frame in found] == [(e, s) for e in (0, 3) for s in range(LENGTHS["one"][e])]
    for number in (0, 3):
        rgb = [frame.rgb_HWC for frame in found if frame.episode == number]
        source = EpisodeFrames(split, number, camera="wrist")
        expected = source.prepared(range(source.num_frames), preprocessing)["rgb"]
        np.testing.assert_array_equal(rgb, expected)


def test_a_damaged_frame_ends_it_or_is_left_out(tmp_path):
    def damaged(split, episode, steps):
        if episode == 1:
            steps[2]["observation"]["image"] = b"no image"

    write_rlds(tmp_path, lengths={"train": (3, 4)}, edit=damaged)

    def found(on_corrupt):
        split, options = open_split(tmp_path, "tiny", "train", on_corrupt=on_corrupt), Preprocessing(8)
        return list(
            every_frame.every_frame(
                split, (3, 4), range(2), camera="primary", preprocessing=options, readers=1
            )
        )

    with pytest.raises(RecordError, match="episode 1.*step 2"):
        found("strict")
    assert [frame[:2] for frame in found("skip") if frame.rgb_HWC is None] == [(1, 2)]


def test_a_reader_of_nothing_says_so(root, tmp_path):
    split = open_split(root, "one", "train")
    with pytest.raises(ImageFeatureError, match="no image features of one:train.*FileNotFoundError.*--out"):
        StoredTokens(tmp_path, split, np.array(LENGTHS["one"]), "primary", Preprocessing(8))
