import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines import statistics as statistics_lib
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.oddities import oddities
from data_pipelines.rlds import open_split
from data_pipelines.running_statistics import RunningStatistics
from data_pipelines.statistics import SplitStatistics, depth_statistics, split_statistics
from farsighted_jax.core.normalization import array_statistics


def pieces(num_pieces=30):
    rng = np.random.default_rng(0)
    return [
        rng.normal(5.0, [1, 10, 0.1], (int(rng.integers(0, 20)), 3)).astype(np.float32)
        for _ in range(num_pieces)
    ]


def test_running_statistics_equal_those_of_all_rows_at_once():
    running = RunningStatistics()
    for piece in pieces():
        running.add(piece)
    expected = array_statistics(np.concatenate(pieces()))
    for name in ("mean", "std", "q01", "q99", "min", "max", "count"):
        np.testing.assert_allclose(getattr(running.result(), name), getattr(expected, name), rtol=1e-9)


def test_of_many_rows_a_bounded_random_part_is_kept():
    rows = np.arange(20_000.0)[:, None]
    running = RunningStatistics(max_rows=1000)
    for piece in np.array_split(rows, 37):
        running.add(piece)
        assert sum(map(len, running._rows)) <= 2000
    found = running.result()
    assert len(running.to_arrays()["rows"]) == 1000
    assert found.mean[0] == pytest.approx(9999.5) and found.min[0] == 0 and found.max[0] == 19_999
    # One percent of 1000 rows: a standard deviation is a third of that.
    assert found.q99[0] == pytest.approx(19_800, abs=250) and found.q01[0] == pytest.approx(200, abs=250)


def test_thinning_sees_all_phases_of_a_period():
    running = RunningStatistics(max_rows=64)
    for _ in range(400):
        running.add(np.arange(16.0)[:, None])
    assert len(np.unique(running.to_arrays()["rows"])) > 12


@pytest.mark.parametrize("max_rows", [10**6, 100])
def test_parts_merge_to_the_whole(max_rows):
    parts = []
    for part in range(5):
        parts.append(RunningStatistics([part], max_rows))
        for piece in pieces(30)[6 * part : 6 * part + 6]:
            parts[-1].add(piece)
    merged = RunningStatistics(max_rows=max_rows)
    for part in parts:
        merged.merge(RunningStatistics.from_arrays(part.to_arrays()))
    expected = array_statistics(np.concatenate(pieces(30)))
    for name in ("mean", "std", "min", "max", "count"):
        np.testing.assert_allclose(getattr(merged.result(), name), getattr(expected, name), rtol=1e-9)
    if max_rows > 1000:
        np.testing.assert_allclose(merged.result().q01, expected.q01, rtol=1e-6)
    rows = np.concatenate(pieces(30))
    low, high = merged.extreme_rows
    np.testing.assert_array_equal(low, rows.argmin(0))
    np.testing.assert_array_equal(high, rows.argmax(0))


def test_pooled_statistics_are_those_of_all_values_together():
    running, rows = RunningStatistics(), np.concatenate(pieces())
    running.add(rows)
    found, expected = running.pooled([0, 2]), array_statistics(rows[:, [0, 2]].reshape(-1, 1))
    for name in ("mean", "std", "q01", "q99", "min", "max", "count"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5)


def test_no_rows_give_no_statistics():
    assert RunningStatistics().result() is None


def test_split_statistics_and_their_cache(tmp_path, monkeypatch):
    write_rlds(tmp_path, lengths={"train": (6, 0, 1, 4)})
    split = open_split(tmp_path, "tiny", "train")
    found = split_statistics(split)
    actions = np.concatenate([episode.actions for episode in split.episodes()])
    np.testing.assert_array_equal(found.lengths, [6, 0, 1, 4])
    np.testing.assert_allclose(found.action.mean, actions.mean(0), rtol=1e-5)
    assert found.action.count == 11 and len(found.state.mean) == 5

    monkeypatch.setattr(statistics_lib, "_measured", lambda split: pytest.fail("read the data again"))
    again = split_statistics(open_split(tmp_path, "tiny", "train"))
    assert again.action.to_dict() == found.action.to_dict()
    assert again.state.to_dict() == found.state.to_dict()
    np.testing.assert_array_equal(again.lengths, found.lengths)
    groups = again.groups(split.spec.action)
    assert list(groups) == ["translation", "gripper"]
    assert groups["translation"].count == 66 and groups["gripper"].mean == pytest.approx(
        found.action.mean[6:]
    )


def test_a_damaged_cache_is_made_anew(tmp_path):
    write_rlds(tmp_path)
    found = split_statistics(open_split(tmp_path, "tiny", "train"))
    (place,) = (tmp_path / "tiny" / "1.0.0").glob(".farsighted-train-statistics*")
    content = bytearray(place.read_bytes())
    content[len(content) // 2] ^= 1
    place.write_bytes(content)
    again = split_statistics(open_split(tmp_path, "tiny", "train"))
    assert again.action.to_dict() == found.action.to_dict()


def test_the_number_of_threads_changes_nothing(tmp_path, monkeypatch):
    write_rlds(tmp_path, lengths={"train": (3,) * 40})
    monkeypatch.setattr(statistics_lib, "_BLOCK", 4)
    found = []
    for readers in (1, 7):
        monkeypatch.setattr(statistics_lib, "_READERS", readers)
        split = open_split(tmp_path, "tiny", "train", cache_dir=tmp_path / f"cache{readers}")
        found.append(split_statistics(split, str(tmp_path / f"cache{readers}")))
    assert found[0].action.to_dict() == found[1].action.to_dict()
    assert found[0].state.to_dict() == found[1].state.to_dict()


def test_halves_merge_to_the_whole_split(tmp_path):
    write_rlds(tmp_path, lengths={"train": (6, 0, 4, 7)})
    whole, *halves = (
        split_statistics(open_split(tmp_path, "tiny", f"train{part}")) for part in ("", "[:2]", "[2:]")
    )
    merged = SplitStatistics.merged(halves)
    np.testing.assert_array_equal(merged.lengths, whole.lengths)
    for name in ("mean", "std", "q01", "q99", "min", "max", "count"):
        np.testing.assert_allclose(getattr(merged.action, name), getattr(whole.action, name), rtol=1e-6)


def make_odd(split, episode, steps):
    for step in steps:
        step["action"][1] = 0.25
        step["action"][6] = float(episode == 3)
    if episode == 2:
        steps[4]["action"][3] = -500.0
        steps[1]["observation"]["state"][2] = 900.0


def test_constant_dimensions_and_outliers_are_named(tmp_path):
    write_rlds(tmp_path, lengths={"train": (60, 0, 60, 60)}, edit=make_odd)
    split = open_split(tmp_path, "tiny", "train")
    found = oddities(split_statistics(split), split.spec)
    assert [(o.kind, o.array, o.dimension, o.value, o.episode, o.step) for o in found] == [
        ("constant", "action", "a1", 0.25, 0, 0),
        ("outlier", "action", "a3", -500.0, 2, 4),
        ("outlier", "state", "s2", 900.0, 2, 1),
    ]
    assert str(found[1]).startswith("action 'a3' is -500 in episode 2, step 4; 98 % of the values lie within")
    write_rlds(tmp_path / "plain", lengths={"train": (60, 60)})
    split = open_split(tmp_path / "plain", "tiny", "train")
    assert oddities(split_statistics(split), split.spec) == []


def test_changed_data_are_measured_anew(tmp_path):
    write_rlds(tmp_path / "a", lengths={"train": (6, 5)})
    write_rlds(tmp_path / "b", lengths={"train": (6, 4)})
    cache_dir = str(tmp_path / "cache")
    for folder, lengths in (("a", [6, 5]), ("b", [6, 4])):
        split = open_split(tmp_path / folder, "tiny", "train", cache_dir=cache_dir)
        np.testing.assert_array_equal(split_statistics(split, cache_dir).lengths, lengths)


def test_a_slice_has_its_own_cache(tmp_path):
    write_rlds(tmp_path, lengths={"train": (6, 5, 4, 7)})
    for text, lengths in (("train[:50%]", [6, 5]), ("train[50%:]", [4, 7]), ("train", [6, 5, 4, 7])):
        for _ in range(2):
            found = split_statistics(open_split(tmp_path, "tiny", text))
            np.testing.assert_array_equal(found.lengths, lengths)


def put_nan(split, episode, steps):
    if episode == 1:
        steps[2]["action"][3] = np.nan


def test_a_non_finite_action_is_refused_by_name_or_counted(tmp_path):
    write_rlds(tmp_path, lengths={"train": (6, 5, 4, 7)}, edit=put_nan)
    with pytest.raises(RecordError) as caught:
        split_statistics(open_split(tmp_path, "tiny", "train"))
    message = str(caught.value)
    assert all(part in message for part in ("'tiny'", "episode 1", "step 2", "dimension 3", "nan")), message
    found = split_statistics(open_split(tmp_path, "tiny", "train", on_corrupt="skip"))
    np.testing.assert_array_equal(found.lengths, [6, 0, 4, 7])
    assert (
        found.num_skipped == 1 and found.skipped == {"not_finite": 1} and np.isfinite(found.action.mean).all()
    )


def test_depth_statistics_are_of_valid_metres(tmp_path):
    write_rlds(tmp_path, depth="png", lengths={"train": (6, 0, 5)}, size=(12, 12))
    split = open_split(tmp_path, "tiny", "train")
    center, scale = depth_statistics(split, split_statistics(split).lengths)
    raw = np.stack([e.depth(s) for e in split.episodes() for s in range(e.num_steps)])
    log_depth = np.log(raw[raw > 0] * 0.001)
    assert center == pytest.approx(log_depth.mean(), abs=1e-3) and scale == pytest.approx(
        log_depth.std(), abs=1e-3
    )


def test_depth_reads_a_bounded_sample(tmp_path, monkeypatch):
    write_rlds(tmp_path, depth="tensor", lengths={"train": (20, 20, 20)}, size=(6, 6))
    split = open_split(tmp_path, "tiny", "train")
    monkeypatch.setattr(statistics_lib, "MAX_DEPTH_FRAMES", 7)
    read, original = [], statistics_lib._valid_metres
    monkeypatch.setattr(statistics_lib, "_valid_metres", lambda *args: read.append(1) or original(*args))
    depth_statistics(split, split_statistics(split).lengths)
    assert len(read) == 7


def no_depth(split, episode, steps):
    for step in steps:
        step["observation"]["depth"][:] = 0


def test_a_dataset_without_a_single_valid_depth_is_refused(tmp_path):
    write_rlds(tmp_path, depth="tensor", edit=no_depth)
    split = open_split(tmp_path, "tiny", "train")
    with pytest.raises(DatasetError, match="'tiny'.*no valid depth"):
        depth_statistics(split, split_statistics(split).lengths)
