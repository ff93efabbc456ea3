"""One stream of datasets that share nothing: robots, formats, cameras, rates and widths."""

import collections
import json

import numpy as np
import pytest
from everything import MIXTURE, ROBOTS, WEIGHTS, write_everything

from data_pipelines.stream import open_stream
from farsighted_jax.core.batch import check

BATCH = 20
NAMES = tuple(WEIGHTS)


@pytest.fixture(scope="module", params=["generated", "real"])
def root(request, tmp_path_factory):
    folder = write_everything(tmp_path_factory.mktemp("everything"), request.param)
    return folder or pytest.skip("no real robot data beside the repository (../shared/data)")


def opened(root, mixture=MIXTURE, *, processes=(0, 1), **options):
    data = {
        "dir": str(root), "cache_dir": str(root / "cache"), "mixture": mixture, "split": "train",
        "resolution": 8, "offsets_s": (0.2, 0.4), "text_tokenizer": "bytes", "text_length": 8,
        "cameras": ("primary", "wrist"), "augment": True, "shift": 0.1,
    }  # fmt: skip
    return open_stream(
        data, batch_size=BATCH, seed=2, process_index=processes[0], process_count=processes[1], **options
    )


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def shares(stream, steps):
    """Dataset -> share of the samples."""
    found = collections.Counter(int(row[0]) for step in steps for row in stream.ids(step))
    return {stream.names[index]: count / sum(found.values()) for index, count in found.items()}


def test_a_batch_holds_them_all_and_masks_what_each_lacks(root):
    stream = opened(root)
    batch = stream.batch(0)
    sizes = check(batch, values=True)
    assert sizes["M"] == 14 and sizes["P"] == 2 and set(batch["dataset"].tolist()) == set(range(len(NAMES)))
    widths = {name: ROBOTS[name]["width"] for name in ROBOTS} | {NAMES[5]: 7, "lerobot": 3, "films": 0}
    for index, name in enumerate(NAMES):
        rows = batch["dataset"] == index
        assert (batch["action_valid"][rows][:, 0].sum(axis=1) == widths[name]).all(), name
        assert batch["text_valid"][rows].any() == (name != "silent"), name
        assert batch["depth_valid"][rows].any() == (name in ("arm7", "base")), name
        assert batch["history_valid"][rows][:, :, 1].any() == (name in ("arm7", "two_arms", "lerobot")), name


def test_frequencies_are_within_one_percent_of_the_weights(root):
    for name, share in shares(opened(root), range(1000)).items():
        assert share == pytest.approx(WEIGHTS[name], rel=0.01), name


def test_it_is_the_same_for_readers_hosts_and_resumed_runs(root):
    whole = opened(root)
    expected = [whole.batch(step) for step in range(4)]
    for readers in (1, 3):
        read = opened(root).batches(1, readers=readers, prefetch=2)
        for step, batch in (next(read) for _ in range(3)):
            assert_equal(batch, expected[step])
        read.close()
    parts = [opened(root, processes=(host, 4)) for host in range(4)]
    for step in (0, 3):
        rows = [part.batch(step) for part in parts]
        assert_equal({name: np.concatenate([row[name] for row in rows]) for name in rows[0]}, expected[step])


def test_b10_weights_that_change_at_a_resume_hold_from_the_next_batch_and_lose_nothing(root):
    before, at = opened(root, "arm7:0.7,films:0.3"), 6
    schedule = json.loads(json.dumps(before.schedule))
    after = opened(root, "lerobot:0.5,arm7:0.3,base:0.2", schedule=schedule, resumed_at=at)
    assert after.names == ("arm7", "films", "lerobot", "base")
    for step in range(at):
        np.testing.assert_array_equal(before.ids(step), after.ids(step))
    assert shares(after, range(at, at + 1)) == {"lerobot": 0.5, "arm7": 0.3, "base": 0.2}
    taken = collections.defaultdict(list)
    for step in range(at + 20):
        for row in after.ids(step).tolist():
            taken[row[0]].append(tuple(row))
    for index, name in enumerate(after.names):
        epoch = taken[index][: after.counts[name]["windows"]]
        assert epoch and len(set(epoch)) == len(epoch), name
    again = opened(root, "lerobot:0.5,arm7:0.3,base:0.2", schedule=after.schedule, resumed_at=at + 9)
    assert again.schedule == after.schedule
    back = opened(root, "arm7:0.7,films:0.3", schedule=after.schedule, resumed_at=at)
    assert back.schedule == before.schedule
