"""The history of a policy: frames before frame 0, of several cameras."""

import numpy as np
import pytest
from rlds_writer import episode_steps, write_rlds

from data_pipelines import episode
from data_pipelines.stream import open_stream
from data_pipelines.trajectory import KeyframeError
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError

SIZE = (8, 8)
LENGTHS = {"both": (6, 5, 4, 7), "single": (9, 8)}
SHAPES = {"both": {"wrist": True, "depth": "png"}, "single": {"width": 4}}
BACK = {"both": (3, 1, 0), "single": (6, 2, 0)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Dataset both: two cameras, depth, 5 Hz; single: one camera, no depth, 10 Hz; still: nothing moves."""
    folder = tmp_path_factory.mktemp("rlds")
    for name, hz in (("both", 5.0), ("single", 10.0)):
        write_rlds(folder, name, lengths={"train": LENGTHS[name]}, size=SIZE, hz=hz, **SHAPES[name])
    write_rlds(folder, "still", size=SIZE, wrist=True, depth="png", edit=without_motion)
    return folder


def without_motion(split, episode, steps):
    image = np.random.default_rng(0).integers(1, 255, (*SIZE, 3), np.uint8)
    for step in steps:
        step["observation"] |= {"image": image, "wrist": image, "depth": image[..., :1].astype(np.uint16)}


def opened(root, mixture="both:0.6,single:0.4", *, batch_size=8, train=True, processes=(0, 1), **changes):
    data = {"dir": str(root), "mixture": mixture, "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4)}
    history = {"cameras": ("primary", "wrist"), "history_s": (0.6, 0.2)}
    return open_stream(
        data | history | changes,
        batch_size=batch_size,
        seed=3,
        train=train,
        process_index=processes[0],
        process_count=processes[1],
    )


def assert_same(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_it_holds_the_frames_before_frame_0_of_each_camera(root):
    stream = opened(root, train=False)
    seen = {}
    for batch in stream.epoch(readers=1, prefetch=1):
        sizes = check(batch, values=True)
        assert sizes["R"] == 3 and sizes["P"] == 2
        for row in np.flatnonzero(batch["dataset"] >= 0):
            name, episode = stream.names[batch["dataset"][row]], int(batch["episode"][row])
            steps = episode_steps(episode, LENGTHS[name][episode], size=SIZE, **SHAPES[name])
            for r, back in enumerate(BACK[name]):
                step = int(batch["step"][row]) - back
                for p, key in enumerate(("image", "wrist")):
                    there = step >= 0 and key in steps[0]["observation"]
                    seen.setdefault((name, key), set()).add(there)
                    assert batch["history_valid"][row, r, p] == there
                    expected = steps[step]["observation"][key] if there else 0
                    np.testing.assert_array_equal(batch["history_rgb"][row, r, p], expected)
                    valid = steps[step]["observation"].get("depth", np.zeros((*SIZE, 1))) > 0
                    valid &= there and key == "image"
                    np.testing.assert_array_equal(batch["history_depth_valid"][row, r, p], valid)
    both = {True, False}
    assert seen == {("both", "image"): both, ("both", "wrist"): both, ("single", "image"): both,
                    ("single", "wrist"): {False}}  # fmt: skip


def test_its_last_frame_is_frame_0_and_depth_is_normalised_alike(root):
    batch = opened(root, augment=True, shift=0.3, jitter=0.3, train=True).batch(1)
    np.testing.assert_array_equal(batch["history_rgb"][:, -1, 0], batch["rgb"][:, 0])
    np.testing.assert_array_equal(batch["history_depth"][:, -1, 0], batch["depth"][:, 0])
    np.testing.assert_array_equal(batch["history_depth_valid"][:, -1, 0], batch["depth_valid"][:, 0])
    assert batch["history_depth_valid"].any()


def test_one_draw_for_all_frames_and_cameras(root):
    batch = opened(root, "still", augment=True, shift=0.3, jitter=0.3).batch(0)
    for row in range(8):
        for r, p in np.argwhere(batch["history_valid"][row]):
            np.testing.assert_array_equal(batch["history_rgb"][row, r, p], batch["rgb"][row, 0])
        for r in np.flatnonzero(batch["history_valid"][row, :, 0]):
            np.testing.assert_array_equal(batch["history_depth"][row, r, 0], batch["depth"][row, 0])
    assert batch["history_valid"].sum() > 16
    assert len({batch["rgb"][row, 0].tobytes() for row in range(8)}) > 3


def test_its_depth_is_the_sensed_one(root):
    frames = {}
    for batch in opened(root, "both", depth_noise=0.1, train=False).epoch(readers=1, prefetch=1):
        check(batch, values=True)
        for row in np.flatnonzero(batch["episode"] >= 0):
            np.testing.assert_array_equal(batch["history_depth"][row, -1, 0], batch["sensed_depth"][row, 0])
            for r, back in enumerate(BACK["both"]):
                if batch["history_valid"][row, r, 0]:
                    place = int(batch["episode"][row]), int(batch["step"][row]) - back
                    first = frames.setdefault(place, batch["history_depth"][row, r, 0].copy())
                    np.testing.assert_array_equal(batch["history_depth"][row, r, 0], first)
    assert (frames[0, 0] != frames[0, 1]).any()


def test_every_image_is_decoded_once(root, monkeypatch):
    decoded = []
    decode = episode.decode_rgb
    monkeypatch.setattr(episode, "decode_rgb", lambda encoded: decoded.append(encoded) or decode(encoded))
    batch = opened(root, "both", augment=True, shift=0.2, plain_clip=True, batch_size=1).batch(0)
    assert len(decoded) == len(set(decoded))
    # Frame 0 of the clip's camera is in both.
    assert len(decoded) == batch["frame_valid"].sum() + batch["history_valid"].sum() - 1


def test_without_times_it_is_frame_0_alone_and_without_cameras_nothing(root):
    batch = opened(root, "both", history_s=()).batch(0)
    assert batch["history_rgb"].shape == (8, 1, 2, 8, 8, 3) and batch["history_valid"].all()
    plain = opened(root, "both", history_s=(), cameras=()).batch(0)
    assert batch.keys() - plain.keys() == {f"history_{n}" for n in ("rgb", "valid", "depth", "depth_valid")}
    assert_same(plain, {name: batch[name] for name in plain})


def test_it_is_the_same_for_readers_hosts_and_resumed_runs(root):
    options = {"augment": True, "shift": 0.3, "jitter": 0.3, "depth_noise": 0.1, "plain_clip": True,
               "action_fraction": 0.4}  # fmt: skip
    expected = [opened(root, **options).batch(step) for step in range(4)]
    batches = opened(root, **options).batches(2, readers=3, prefetch=2)
    for step in (2, 3):
        assert_same(next(batches)[1], expected[step])
    batches.close()
    hosts = [opened(root, processes=(p, 2), **options).batch(3) for p in range(2)]
    assert_same({name: np.concatenate([host[name] for host in hosts]) for name in hosts[0]}, expected[3])


@pytest.mark.parametrize(
    ("changes", "error", "named"),
    [
        ({"cameras": ("primary", "secondary")}, ConfigError, r"'secondary'.*\['primary', 'wrist'\]"),
        ({"cameras": ("wrist", "primary")}, ConfigError, r"'wrist', 'primary'.*'primary' first"),
        ({"cameras": ("primary", "primary")}, ConfigError, "data.cameras.*distinct"),
        ({"cameras": ()}, ConfigError, r"data.history_s.*\(0.6, 0.2\).*data.cameras"),
        ({"history_s": (0.2, 0.6)}, KeyframeError, "'both' at 5 Hz: history_s from the latest.*nearest"),
        ({"history_s": (0.2, 0.2)}, KeyframeError, r"'both' at 5 Hz: history_s.*\(1, 1\)"),
        ({"history_s": (0.2, 0.0)}, KeyframeError, r"'both' at 5 Hz: history_s.*\(0, 1\)"),
        ({"action_fraction": 1.5}, ConfigError, "data.action_fraction.*1.5"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(root, changes, error, named):
    with pytest.raises(error, match=named):
        opened(root, **changes)


def test_real_episodes(bridge_dir, tmp_path):
    options = {"cameras": ("primary",), "history_s": (0.4, 0.2), "cache_dir": str(tmp_path), "resolution": 32}
    stream = opened(bridge_dir, "bridge_dataset", train=False, **options)
    batch = next(stream.epoch(readers=1, prefetch=1))
    check(batch, values=True)
    assert batch["step"].tolist() == list(range(8)) and batch["history_valid"][2:].all()
    assert batch["history_valid"][:2, :, 0].tolist() == [[False, False, True], [False, True, True]]
    np.testing.assert_array_equal(batch["history_rgb"][2:, 0, 0], batch["rgb"][:-2, 0])
    np.testing.assert_array_equal(batch["history_rgb"][1:, 1, 0], batch["rgb"][:-1, 0])
