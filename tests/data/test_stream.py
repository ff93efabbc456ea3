import collections
import json
import subprocess
import sys

import numpy as np
import pytest
from rlds_writer import episode_steps, write_rlds

from data_pipelines import sampler
from data_pipelines.mixture import continued
from data_pipelines.oxe.mixtures import MIXTURES, Mixture
from data_pipelines.stream import open_stream
from data_pipelines.trajectory import KeyframeError
from farsighted_jax.core.batch import check
from farsighted_jax.core.config import ConfigError
from farsighted_jax.core.normalization import ArrayStatistics, denormalize, denormalize_depth

LENGTHS = (6, 0, 1, 5, 9)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Datasets one (7-D, no depth), two (4-D, depth in mm), three (7-D)."""
    folder = tmp_path_factory.mktemp("rlds")
    write_rlds(folder, "one", lengths={"train": LENGTHS, "val": (4, 3)})
    write_rlds(
        folder, "two", lengths={"train": (5, 8)}, width=4, state_width=3, depth="png", size=(10, 10), hz=10.0
    )
    write_rlds(folder, "three", lengths={"train": (12, 3)})
    return folder


def config(root, **changes):
    return {
        "dir": str(root), "mixture": "one", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4, 0.6),
        "action_horizon": 5, "batch_size": 4,
    } | changes  # fmt: skip


def ids(batch):
    return np.stack([batch["dataset"], batch["episode"], batch["step"]], 1).tolist()


def some_ids(stream, steps):
    return [ids(stream.batch(step)) for step in steps]


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def test_batches_obey_the_contract(root):
    stream = open_stream(
        config(root, mixture="one:1,two:1", augment=True, shift=0.2, jitter=0.3), batch_size=6, seed=0
    )
    sizes = check(stream.batch(3), values=True)
    assert sizes == {"B": 6, "T": 4, "t": 3, "H": 8, "W": 8, "J": 5, "M": 7, "I": 5}
    json.dumps([stream.statistics, stream.schedule, stream.counts, stream.fingerprints])
    assert stream.names == ("one", "two") and stream.specs["two"].hz == 10.0


def test_a_row_holds_its_window(root):
    stream = open_stream(config(root), batch_size=8, seed=0)
    batch = stream.batch(0)
    action = ArrayStatistics.from_dict(stream.statistics["one"]["action"])
    state = ArrayStatistics.from_dict(stream.statistics["one"]["state"])
    keep = [False] * 6 + [True]
    for row, (_, episode, start) in enumerate(ids(batch)):
        steps = episode_steps(episode, LENGTHS[episode])
        actions = np.stack([step["action"] for step in steps])
        valid = [start + k < len(steps) for k in range(4)]
        assert batch["frame_valid"][row].tolist() == valid
        np.testing.assert_allclose(batch["time_s"][row], np.where(valid, [0, 0.2, 0.4, 0.6], 0), rtol=1e-6)
        chunk_valid = [start + j < len(steps) for j in range(5)]
        np.testing.assert_array_equal(batch["action_valid"][row], np.repeat(chunk_valid, 7).reshape(5, 7))
        found = denormalize(batch["action"][row], action, keep=keep)[chunk_valid]
        np.testing.assert_allclose(found, actions[start : start + 5], atol=1e-5)
        np.testing.assert_array_equal(batch["action"][row][chunk_valid][:, 6], actions[start : start + 5, 6])
        assert batch["last_action_valid"][row].tolist() == [start > 0] * 7
        if start:
            found = denormalize(batch["last_action"][row], action, keep=keep)
            np.testing.assert_allclose(found, actions[start - 1], atol=1e-5)
        found = denormalize(batch["proprio"][row], state)
        np.testing.assert_allclose(found, steps[start]["observation"]["state"], atol=1e-5)
        for k in range(1, 4):
            if valid[k]:
                expected = [*actions[start : start + k, :6].sum(0), actions[start + k, 6] - actions[start, 6]]
                np.testing.assert_allclose(batch["action_sum"][row, k - 1], expected, atol=1e-5)


def test_what_stands_under_a_mask_is_zero(root):
    stream = open_stream(config(root, mixture="one:1,two:1", augment=True, shift=0.2), batch_size=16, seed=1)
    batch = stream.batch(0)
    assert not batch["frame_valid"].all()
    for name in ("rgb", "depth", "time_s", "depth_valid"):
        assert not batch[name][~batch["frame_valid"]].any(), name
    for name in ("depth", "action", "last_action", "action_sum", "proprio"):
        assert not batch[name][~batch[f"{name}_valid"]].any(), name
    two = batch["dataset"] == 1
    assert batch["action_valid"][two][..., 4:].sum() == 0 and batch["action_valid"][~two][:, 0].all()
    assert batch["proprio_valid"][two].sum(-1).tolist() == [3] * two.sum()


def test_keyframes_are_seconds_for_every_rate(root):
    stream = open_stream(config(root, mixture="one:1,two:1"), batch_size=16, seed=0)
    batch = stream.batch(0)
    for row in range(16):
        times = batch["time_s"][row][batch["frame_valid"][row]]
        np.testing.assert_allclose(times, [0, 0.2, 0.4, 0.6][: len(times)], rtol=1e-6)
    # At 10 Hz, 0.2 s are two frames: an episode of 8 steps has 6 windows.
    assert stream.counts["two"]["windows"] == 3 + 6


def test_depth_comes_back_in_metres(root):
    stream = open_stream(config(root, mixture="two", resolution=10), batch_size=4, seed=0)
    batch = stream.batch(0)
    for row, (_, episode, start) in enumerate(ids(batch)):
        raw = episode_steps(episode, (5, 8)[episode], width=4, state_width=3, depth="png", size=(10, 10))
        millimetres = raw[start]["observation"]["depth"].astype(np.float32)
        center, scale = batch["depth_center"][row], batch["depth_scale"][row]
        metres = denormalize_depth(batch["depth"][row, 0], center, scale)
        valid = batch["depth_valid"][row, 0]
        np.testing.assert_array_equal(valid, millimetres > 0)
        np.testing.assert_allclose(metres[valid], millimetres[valid] / 1000, rtol=1e-4)


def test_depth_settings(root):
    assert "depth" not in open_stream(config(root), batch_size=2, seed=0).batch(0)
    assert "depth" not in open_stream(config(root, mixture="two", depth="off"), batch_size=2, seed=0).batch(0)
    with pytest.raises(ConfigError, match="'one'"):
        open_stream(config(root, mixture="one:1,two:1", depth="on"), batch_size=2, seed=0)


def test_order_is_the_same_for_readers_hosts_and_resumed_runs(root):
    settings = config(root, mixture="one:0.5,two:0.2,three:0.3", windows_per_episode=1)
    whole = open_stream(settings, batch_size=8, seed=5)
    expected = some_ids(whole, range(12))
    for readers in (1, 4):
        for first in (0, 7):
            batches = whole.batches(first, readers=readers, prefetch=3)
            for step in range(first, 12):
                found_step, batch = next(batches)
                assert found_step == step and ids(batch) == expected[step]
            batches.close()
    for hosts in (2, 4):
        streams = [
            open_stream(settings, batch_size=8, seed=5, process_index=p, process_count=hosts)
            for p in range(hosts)
        ]
        for step in (0, 7, 11):
            assert [row for stream in streams for row in ids(stream.batch(step))] == expected[step]
    chosen = open_stream(settings, batch_size=8, seed=5, rows=(1, 2, 6))
    assert ids(chosen.batch(7)) == [expected[7][row] for row in (1, 2, 6)]
    assert some_ids(open_stream(settings, batch_size=8, seed=6), range(12)) != expected


def test_pixels_are_the_same_too_with_augmentation(root):
    settings = config(root, mixture="one:1,two:1", augment=True, shift=0.3, jitter=0.3)
    whole = open_stream(settings, batch_size=4, seed=2).batch(9)
    halves = [
        open_stream(settings, batch_size=4, seed=2, process_index=p, process_count=2).batch(9) for p in (0, 1)
    ]
    assert_equal(whole, {name: np.concatenate([half[name] for half in halves]) for name in whole})
    plain = open_stream(settings | {"augment": False}, batch_size=4, seed=2).batch(9)
    assert ids(plain) == ids(whole) and (plain["rgb"] != whole["rgb"]).any()
    assert_equal(plain, open_stream(settings, batch_size=4, seed=2, train=False).batch(9))


def still(split, episode, steps):
    image = np.random.default_rng(0).integers(1, 255, (8, 8, 3), np.uint8)
    for step in steps:
        step["observation"]["image"] = image
        step["observation"]["depth"] = image[..., :1].astype(np.uint16)


def test_one_draw_for_all_frames_and_depth(tmp_path):
    write_rlds(tmp_path, depth="png", size=(8, 8), edit=still)
    settings = config(tmp_path, mixture="tiny", augment=True, shift=0.4)
    batch = open_stream(settings, batch_size=8, seed=0).batch(0)
    for row in range(8):
        frames = np.flatnonzero(batch["frame_valid"][row])
        for k in frames[1:]:
            for name in ("rgb", "depth", "depth_valid"):
                np.testing.assert_array_equal(batch[name][row, k], batch[name][row, 0])
        metres = denormalize_depth(
            batch["depth"][row, 0], batch["depth_center"][row], batch["depth_scale"][row]
        )
        valid = batch["depth_valid"][row, 0][..., 0]
        np.testing.assert_allclose(
            metres[valid][:, 0] * 1000, batch["rgb"][row, 0, :, :, 0][valid], rtol=1e-3
        )
    assert len({batch["rgb"][row, 0].tobytes() for row in range(8)}) > 3


def test_nothing_is_lost_or_doubled_in_an_epoch(root):
    stream = open_stream(config(root), batch_size=1, seed=0)
    every = {(0, e, s) for e, length in enumerate(LENGTHS) for s in range(length - 1)}
    assert stream.num_windows == len(every) == 17
    orders = []
    for epoch in range(3):
        order = [tuple(ids(stream.batch(step))[0]) for step in range(epoch * 17, epoch * 17 + 17)]
        assert len(order) == len(set(order)) and set(order) == every
        orders.append(order)
    assert orders[0] != orders[1] != orders[2]


def test_orders_that_do_not_fit_in_memory_are_permutations_too(monkeypatch):
    orders = []
    for small in (0, sampler.SMALL):
        monkeypatch.setattr(sampler, "SMALL", small)
        epochs = sampler.ShuffledEpochs(np.array([3, 0, 5]), 1, seed=4)
        for epoch in (0, 1, 10**6):
            orders.append([epochs.unit(epoch * 8 + i) for i in range(8)])
            assert sorted(orders[-1]) == [(0, (s,)) for s in range(3)] + [(2, (s,)) for s in range(5)]
    assert len({str(order) for order in orders}) == 6


def test_short_episodes_are_counted(root):
    counts = open_stream(config(root), batch_size=1, seed=0).counts
    assert counts["one"] == {
        "episodes": 5, "windows": 17, "episodes_skipped": 0, "episodes_empty": 1, "episodes_too_short": 1,
        "episodes_left_out_of_groups": 0, "episodes_skipped_for": {}, "unread_frames_for": {},
    }  # fmt: skip


def test_changed_weights_continue_each_dataset_where_it_was(root):
    before = open_stream(config(root, mixture="one:0.7,two:0.3"), batch_size=4, seed=3)
    schedule = continued(before.schedule, 5, {"two": 0.5, "three": 0.5})
    after = open_stream(config(root), batch_size=4, seed=3, schedule=json.loads(json.dumps(schedule)))
    assert after.names == ("one", "two", "three")
    assert some_ids(before, range(5)) == some_ids(after, range(5))
    seen = collections.defaultdict(list)
    for row in (tuple(row) for batch in some_ids(after, range(16)) for row in batch):
        seen[row[0]].append(row)
    assert {row[0] for batch in some_ids(after, range(5, 16)) for row in batch} == {1, 2}
    for dataset in (1, 2):
        windows = open_stream(config(root, mixture=after.names[dataset]), batch_size=1, seed=3).num_windows
        epoch = seen[dataset][:windows]
        assert len(epoch) == windows == len(set(epoch))


def test_windows_of_one_episode_stand_together(root):
    stream = open_stream(config(root, mixture="one:1,three:1", windows_per_episode=3), batch_size=6, seed=0)
    seen = set()
    for step in range(40):
        rows = [tuple(row) for row in ids(stream.batch(step))]
        for group in (rows[:3], rows[3:]):
            assert len({row[:2] for row in group}) == 1 and len(set(group)) == 3
        seen.update(rows)
    assert seen == {(0, e, s) for e in (0, 3, 4) for s in range(LENGTHS[e] - 1)} | {
        (1, 0, s) for s in range(11)
    }
    assert stream.counts["three"]["episodes_left_out_of_groups"] == 1


def test_an_epoch_is_every_window_once_in_order(root):
    settings = config(root, mixture="one:0.9,two:0.1", augment=True, jitter=0.5)
    chosen = open_stream(settings, batch_size=6, seed=1, rows=(0, 5)).epoch(readers=1)
    assert [row for part in chosen for row in ids(part)[:1]] == [
        row for part in open_stream(settings, batch_size=6, seed=1).epoch() for row in ids(part)[:1]
    ]
    for hosts in (1, 2):
        streams = [
            open_stream(settings, batch_size=6, seed=1, process_index=p, process_count=hosts)
            for p in range(hosts)
        ]
        rows = []
        for parts in zip(*(stream.epoch(readers=2) for stream in streams), strict=True):
            for part in parts:
                check(part, values=True)
                rows += ids(part)
                padding = part["dataset"] == -1
                assert not part["frame_valid"][padding].any() and not part["rgb"][padding].any()
                assert part["frame_valid"][~padding][:, :2].all()
        assert len(rows) == streams[0].num_batches * 6 == 30
        assert rows[26:] == [[-1] * 3] * 4
        assert (
            rows[:26] == sorted(rows[:26])
            and len({tuple(row) for row in rows[:26]}) == streams[0].num_windows == 26
        )


def test_validation_is_normalised_by_given_statistics(root):
    train = open_stream(config(root), batch_size=2, seed=0)
    own = open_stream(config(root, split="val"), batch_size=2, seed=0, train=False)
    given = open_stream(
        config(root, split="val"), batch_size=2, seed=0, train=False, statistics=train.statistics
    )
    assert (
        given.statistics["one"]["action"]
        == train.statistics["one"]["action"]
        != own.statistics["one"]["action"]
    )
    action = ArrayStatistics.from_dict(train.statistics["one"]["action"])
    batch = given.batch(0)
    _, episode, start = ids(batch)[0]
    actions = np.stack([step["action"] for step in episode_steps(episode, (4, 3)[episode])])
    found = denormalize(batch["action"][0], action, keep=[False] * 6 + [True])
    np.testing.assert_allclose(found[0], actions[start], atol=1e-5)


def test_digest_tells_orders_apart(root):
    stream = open_stream(config(root), batch_size=4, seed=0)
    batch = stream.batch(0)
    assert (
        stream.ids_digest(batch) == stream.ids_digest(stream.batch(0)) != stream.ids_digest(stream.batch(1))
    )
    assert stream.ids_digest(batch) != stream.ids_digest({name: array[::-1] for name, array in batch.items()})


@pytest.mark.parametrize(
    "changes, sizes, named",
    [
        ({}, {"batch_size": 6, "process_count": 4}, "batch_size 6.*4 host"),
        ({"windows_per_episode": 3}, {"batch_size": 4}, "batch_size 4.*3 window"),
        ({"depth": "yes"}, {}, "data.depth"),
        ({"normalization": "q1"}, {}, "data.normalization"),
        ({"resolution": 0}, {}, "data.resolution"),
        ({"shift": 2.0}, {}, "data.shift"),
        ({"dataset_offsets_s": (("tow", (0.2, 0.4, 0.6)),)}, {}, "dataset_offsets_s.*'tow' is not one of"),
        ({"dataset_offsets_s": (("one", (0.2, 0.4)),)}, {}, r"2 offsets \(0.2, 0.4\) for 'one', expected 3"),
        ({}, {"process_index": 1}, "process_index 1"),
    ],
)
def test_wrong_settings_are_refused(root, changes, sizes, named):
    with pytest.raises(ConfigError, match=named):
        open_stream(config(root, **changes), **({"batch_size": 4, "seed": 0} | sizes))


def test_missing_settings_are_named(root):
    with pytest.raises(ConfigError, match="offsets_s"):
        open_stream({k: v for k, v in config(root).items() if k != "offsets_s"}, batch_size=4, seed=0)


def test_impossible_offsets_are_refused_at_opening(root):
    with pytest.raises(KeyframeError, match="'one' at 5 Hz"):
        open_stream(config(root, offsets_s=(0.1, 0.2, 0.3)), batch_size=4, seed=0)


def test_a_dataset_may_have_offsets_of_its_own(root):
    own = (("two", (0.1, 0.2, 0.4)),)
    stream = open_stream(config(root, mixture="one,two", dataset_offsets_s=own), batch_size=8, seed=0)
    batch = stream.batch(0)
    whole = batch["frame_valid"].all(1)
    for index, offsets_s in enumerate([(0.2, 0.4, 0.6), (0.1, 0.2, 0.4)]):
        rows = whole & (batch["dataset"] == index)
        assert rows.any()
        np.testing.assert_allclose(batch["time_s"][rows], [(0, *offsets_s)] * rows.sum(), atol=1e-6)
    with pytest.raises(KeyframeError, match="'one' at 5 Hz"):
        open_stream(
            config(root, mixture="one,two", dataset_offsets_s=(("one", (0.1, 0.2, 0.3)),)),
            batch_size=4,
            seed=0,
        )


def test_importing_loads_neither_jax_nor_tensorflow():
    code = (
        "import sys, data_pipelines.stream; "
        "print([name for name in ('jax', 'flax', 'chex', 'tensorflow', 'torch') if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"


def test_real_episodes(bridge_dir, tmp_path):
    settings = config(bridge_dir, mixture="bridge_dataset", resolution=32, cache_dir=str(tmp_path))
    stream = open_stream(settings, batch_size=8, seed=0)
    assert stream.num_windows == 17 * 9
    check(stream.batch(0), values=True)
    assert sum(int(b["frame_valid"].all(1).sum()) for b in stream.epoch()) == 119
    validation = open_stream(settings | {"split": "val"}, batch_size=8, seed=0, train=False)
    assert sum(int(b["frame_valid"].all(1).sum()) for b in validation.epoch()) == 21


def test_weights_for_each_step_and_optional_datasets(root, monkeypatch):
    sized = Mixture({"one": 1.0, "three": 2.0, "gone": 1.0}, "a test", frozenset({"gone"}))
    monkeypatch.setitem(MIXTURES, "sized", sized)
    with pytest.warns(UserWarning, match="optional dataset 'gone'") as told:
        stream = open_stream(config(root, mixture="sized"), batch_size=4, seed=0)
    assert len(told) == 1 and stream.names == ("one", "three")
    ones = sum(LENGTHS)
    assert stream.schedule == ((0, {"one": ones / (ones + 30), "three": 30 / (ones + 30)}),)
