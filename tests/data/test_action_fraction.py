"""Few actions: which episodes show theirs, and that the others tell nothing of theirs."""

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines.rlds import open_split
from data_pipelines.source import seen_episodes
from data_pipelines.stream import open_stream
from farsighted_jax.core.batch import check
from farsighted_jax.core.normalization import ArrayStatistics, array_statistics

LENGTHS = (3, 2, 4, 3, 1, 2, 3, 2, 5, 2)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rlds")
    write_rlds(folder, "few", lengths={"train": LENGTHS, "val": (4, 3)})
    return folder


def opened(root, fraction, *, train=True, **changes):
    data = {"dir": str(root), "mixture": "few", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4)}
    return open_stream(data | {"action_fraction": fraction} | changes, batch_size=4, seed=3, train=train)


def episodes_with_actions(stream):
    seen, all_episodes = set(), set()
    for batch in stream.epoch(readers=1, prefetch=1):
        check(batch, values=True)
        for row in np.flatnonzero(batch["episode"] >= 0):
            shown = batch["action_valid"][row].any()
            assert shown == batch["action_sum_valid"][row].any()
            if not shown:
                assert not batch["action"][row].any() and not batch["action_sum"][row].any()
            all_episodes.add(int(batch["episode"][row]))
            seen |= {int(batch["episode"][row])} if shown else set()
    assert all_episodes == {e for e, length in enumerate(LENGTHS) if length > 1}
    return seen


def test_a_share_shows_its_actions_and_all_show_the_rest(root):
    stream = opened(root, 0.5)
    seen = episodes_with_actions(stream)
    assert len(seen) == 4 and stream.counts["few"]["episodes_with_actions"] == 4
    whole = opened(root, 1.0)
    assert len(episodes_with_actions(whole)) == 9 and "episodes_with_actions" not in whole.counts["few"]
    few, every = stream.batch(1), whole.batch(1)
    for name in {name for name in every if "action" not in name}:
        np.testing.assert_array_equal(few[name], every[name], err_msg=name)


def test_one_episode_is_left_and_every_share_holds_the_smaller_ones(root):
    shares = [episodes_with_actions(opened(root, fraction)) for fraction in (0.0, 0.01, 0.3, 0.6, 1.0)]
    assert [len(share) for share in shares] == [1, 1, 3, 5, 9]
    assert all(small <= large for small, large in zip(shares, shares[1:], strict=False))


def test_one_percent_is_a_part_of_ten(root):
    split, windows_E = open_split(root, "few", "train"), np.tile([3, 0, 1, 2, 2], 200)
    one, ten = (seen_episodes(split, windows_E, fraction) for fraction in (0.01, 0.1))
    assert one.sum() == 8 and ten.sum() == 80 and (ten | ~one).all()
    assert not ten[windows_E == 0].any()
    # Not the first ones: they are spread over the split.
    assert 200 < np.flatnonzero(ten).mean() < 800


def test_statistics_are_of_what_is_seen(root):
    stream = opened(root, 0.3)
    split = open_split(root, "few", "train")
    seen = sorted(episodes_with_actions(stream))
    expected = array_statistics(np.concatenate([split.episode(e).actions for e in seen]))
    for again in (stream, opened(root, 0.3)):
        found = ArrayStatistics.from_dict(again.statistics["few"]["action"])
        assert found.count == expected.count
        for name in ("mean", "std", "q01", "q99", "min", "max"):
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=1e-5, atol=1e-7)
    whole = opened(root, 1.0)
    assert whole.statistics["few"]["action"]["count"] == sum(LENGTHS)
    assert whole.statistics["few"]["state"] == stream.statistics["few"]["state"]


def test_evaluation_sees_all(root):
    stream = opened(root, 0.0, train=False, split="val")
    valid = np.concatenate([batch["action_valid"][batch["episode"] >= 0] for batch in stream.epoch()])
    assert valid[:, 0].all()
