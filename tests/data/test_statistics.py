import json

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines import statistics as statistics_lib
from data_pipelines.errors import DatasetError, RecordError
from data_pipelines.rlds import open_split
from data_pipelines.statistics import RunningStatistics, SplitStatistics, depth_statistics, split_statistics
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


def test_many_rows_are_thinned_evenly_and_bounded():
    rows = np.arange(1000.0)[:, None]
    running = RunningStatistics(max_rows=100)
    for piece in np.array_split(rows, 37):
        running.add(piece)
        assert running._kept <= 100
    kept = np.concatenate(running._pieces)[:, 0]
    assert len(set(np.diff(kept))) == 1 and kept[0] == 0 and len(kept) > 50
    found = running.result()
    assert found.mean[0] == pytest.approx(499.5) and found.min[0] == 0 and found.max[0] == 999
    assert found.q99[0] == pytest.approx(989, abs=20)


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
    assert again.to_dict() == found.to_dict()
    assert SplitStatistics.from_dict(json.loads(json.dumps(found.to_dict()))).to_dict() == found.to_dict()


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
    assert found.num_skipped == 1 and np.isfinite(found.action.mean).all()


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
