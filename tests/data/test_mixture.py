import collections

import pytest

from data_pipelines.errors import DatasetError
from data_pipelines.mixture import (
    Interleave,
    MixtureError,
    check_present,
    checked_schedule,
    continued,
    dataset_names,
    parse_mixture,
)
from data_pipelines.oxe.mixtures import MIXTURES
from data_pipelines.oxe.registry import BLOCKS
from data_pipelines.stream import open_stream

WEIGHTS = {"a": 0.5, "b": 0.2, "c": 0.29, "d": 0.01}


def test_mixtures_by_name_dataset_and_text():
    assert parse_mixture("bridge") == {"bridge_dataset": 1.0}
    assert parse_mixture("some_dataset") == {"some_dataset": 1.0}
    assert parse_mixture("a:3, b:1") == {"a": 0.75, "b": 0.25}
    for name in MIXTURES:
        assert sum(parse_mixture(name).values()) == pytest.approx(1.0)


@pytest.mark.parametrize(
    "text, named",
    [
        ("", "expected"),
        (":1", "expected"),
        ("a:x", "'x'"),
        ("a:0", "0.0"),
        ("a:-1", "-1"),
        ("a:nan", "nan"),
        ("a:inf", "inf"),
        ("a,a", "repeated"),
    ],
)
def test_unreadable_mixtures_are_named(text, named):
    with pytest.raises(MixtureError, match=named):
        parse_mixture(text)


def test_counts_equal_walking_through_the_stream():
    interleave = Interleave.of(checked_schedule([(0, WEIGHTS)]), 1)
    walked = [0] * 4
    for unit in range(700):
        assert interleave.counts(unit) == tuple(walked)
        dataset, position = interleave.locate(unit)
        assert position == walked[dataset]
        walked[dataset] += 1


def test_frequencies_stay_close_to_the_weights_everywhere():
    interleave = Interleave.of(checked_schedule([(0, WEIGHTS)]), 1)
    for unit in (1, 10, 99, 1000, 12345, 10**9 + 7):
        for count, weight in zip(interleave.counts(unit), WEIGHTS.values(), strict=True):
            assert abs(count - unit * weight) < len(WEIGHTS)
    window = [interleave.locate(unit)[0] for unit in range(10**9, 10**9 + 200)]
    found = collections.Counter(window)
    assert all(abs(found[d] - 200 * w) < 2 * len(WEIGHTS) for d, w in enumerate(WEIGHTS.values()))


def test_changed_weights_lose_and_repeat_nothing():
    schedule = [(0, {"a": 0.7, "b": 0.3}), (5, {"a": 0.1, "b": 0.4, "c": 0.5}), (9, {"c": 1.0})]
    interleave = Interleave.of(checked_schedule(schedule), units_per_step=7)
    seen = collections.defaultdict(list)
    for unit in range(13 * 7):
        dataset, position = interleave.locate(unit)
        seen[dataset].append(position)
        if unit >= 9 * 7:
            assert dataset == 2
    for positions in seen.values():
        assert positions == list(range(len(positions)))
    assert sum(interleave.counts(13 * 7)) == 13 * 7


def test_a_new_segment_changes_nothing_before_it():
    before = Interleave.of(checked_schedule([(0, {"a": 0.7, "b": 0.3})]), 4)
    after = Interleave.of(continued([(0, {"a": 0.7, "b": 0.3})], 6, {"b": 0.2, "z": 0.8}), 4)
    for unit in range(24):
        assert before.locate(unit) == after.locate(unit)
    assert {after.locate(unit)[0] for unit in range(24, 60)} == {1, 2}


def test_continuing():
    schedule = checked_schedule([(0, {"a": 1.0, "b": 1.0})])
    assert continued(schedule, 10, {"a": 5.0, "b": 5.0}) == schedule
    longer = continued(schedule, 10, {"c": 1.0, "a": 3.0})
    assert longer[0] == schedule[0] and longer[1] == (10, {"c": 0.25, "a": 0.75})
    assert dataset_names(longer) == ("a", "b", "c")
    assert continued(longer, 10, {"a": 1.0, "b": 1.0}) == schedule
    assert continued(longer, 0, {"c": 1.0}) == ((0, {"c": 1.0}),)


@pytest.mark.parametrize("steps", [[], [1], [0, 5, 5], [0, 5, 3]])
def test_schedules_start_at_zero_and_increase(steps):
    with pytest.raises(MixtureError, match="increasing"):
        checked_schedule([(step, {"a": 1.0}) for step in steps])


def test_named_mixtures_are_registered_and_their_weights_have_a_source():
    assert set(MIXTURES) >= {"octo_magic_soup", "oxe_magic_soup_plus", "omni_magic_soup_plus_plus", "lam"}
    for name, named in MIXTURES.items():
        assert not set(named.weights) - set(BLOCKS), name
        assert named.source and named.optional <= set(named.weights)
    sizes = [len(MIXTURES[name].weights) for name in ("octo_rtx", "octo_magic_soup", "oxe_magic_soup_plus")]
    assert sizes == [11, 25, 27]
    assert (
        len(MIXTURES["octo_full"].weights) == 50 and len(MIXTURES["omni_magic_soup_plus_plus"].weights) == 33
    )
    franka = MIXTURES["octo_rtx_franka"].weights
    assert len(franka) == 11 + 18 - 4 and franka["taco_play"] == 2.0


def test_peers_weights_count_for_each_step():
    shares = parse_mixture("bridge_rt_1", num_steps={"bridge_orig": 30, "fractal20220817_data": 10})
    assert shares == {"bridge_orig": 0.75, "fractal20220817_data": 0.25}
    assert parse_mixture("a:3,b:1", num_steps={"a": 1, "b": 9}) == {"a": 0.75, "b": 0.25}


def test_an_absent_dataset_is_an_error_unless_it_is_optional(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.warns(UserWarning, match="optional dataset 'b' is not in"):
        assert parse_mixture("a:1,b?:3", str(tmp_path)) == {"a": 1.0}
    assert parse_mixture("a:1,b?:3") == {"a": 0.25, "b": 0.75}
    check_present("a,b?", str(tmp_path), ["a"])
    data = {"dir": str(tmp_path), "mixture": "a,b,c", "split": "train", "resolution": 8, "offsets_s": [0.1]}
    with pytest.raises(DatasetError, match=r"mixture 'a,b,c': no dataset folder in .* for \['b', 'c'\]"):
        open_stream(data, batch_size=2, seed=0)
