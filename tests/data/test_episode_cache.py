"""What is kept in memory: never more than the budget, and never with an effect on a batch."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines import episode_cache
from data_pipelines.episode_cache import EpisodeCache, plan
from data_pipelines.rlds import open_split
from data_pipelines.stream import open_stream
from farsighted_jax.core.config import ConfigError


def config(root, **changes):
    return {
        "dir": str(root), "mixture": "tiny", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4),
        "action_horizon": 3, "depth": "on", "augment": True, "shift": 0.2, "jitter": 0.3,
    } | changes  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kept")
    write_rlds(folder, depth="tensor", file_format="array_record", size=(24, 32))
    return folder


@pytest.mark.parametrize(("memory_mb", "readers"), [(1.0, 1), (1.0, 4), (1.2, 3), (256.0, 4)])
def test_batches_do_not_depend_on_budget_or_readers(root, memory_mb, readers):
    expected = open_stream(config(root), batch_size=4, seed=3)
    stream = open_stream(config(root, memory_mb=memory_mb), batch_size=4, seed=3)
    for step, batch in stream.batches(0, readers=readers, prefetch=3):
        if step == 12:
            break
        for name, values in expected.batch(step).items():
            np.testing.assert_array_equal(batch[name], values, err_msg=name)
    assert stream.memory["kept_mb"] <= memory_mb


def test_a_record_and_a_frame_are_read_once_while_they_fit(root, monkeypatch):
    stream = open_stream(config(root), batch_size=4, seed=0)
    split = stream._sources["tiny"].split
    reads = []
    read = split._records.read
    monkeypatch.setattr(split._records, "read", lambda number: reads.append(number) or read(number))
    for step in range(12):
        stream.batch(step)
    assert sorted(reads) == [0, 1, 2, 3]
    memory = stream.memory
    # 4 episodes; 22 frames, each as rgb and as depth.
    assert memory["kept_misses"] == 4 + 2 * 22 and memory["kept_hits"] > 48


class Clock:
    """Processor time that reading an episode or making a frame takes here."""

    def __init__(self, monkeypatch, episode_s, frame_s):
        self.now, self.episode_s, self.frame_s = 0.0, episode_s, frame_s
        monkeypatch.setattr(episode_cache.time, "thread_time", lambda: self.now)

    def split(self, split):
        def read(number):
            self.now += self.episode_s
            return split.episode(number)

        return SimpleNamespace(name=split.name, episode=read)

    def image(self):
        self.now += self.frame_s
        return np.zeros((24, 32, 3), np.uint8)


@pytest.mark.parametrize("episode_s", [1e-6, 1.0])
def test_what_saves_less_gives_way_first_and_then_the_least_recently_used(root, monkeypatch, episode_s):
    opened = open_split(root, "tiny", "train")
    clock = Clock(monkeypatch, episode_s, frame_s=1e-3)
    split, frame = clock.split(opened), 24 * 32 * 3
    sizes = [opened.episode(number).num_bytes for number in range(3)]
    cache = EpisodeCache(sum(sizes[:2]) + 3 * frame)
    first = cache.episode(split, 0)
    images = [cache.frame(split, first, step, "rgb", clock.image) for step in range(3)]
    cache.episode(split, 1)
    assert cache.num_bytes == sum(sizes[:2]) + 3 * frame and cache.hits == 0
    assert cache.episode(split, 0) is first and cache.frame(split, first, 0, "rgb", clock.image) is images[0]
    cache.episode(split, 2)
    assert cache.num_bytes <= sum(sizes[:2]) + 3 * frame
    kept = [cache.frame(split, first, step, "rgb", clock.image) is images[step] for step in (0, 2)]
    assert kept == [episode_s < 1e-3] * 2
    assert cache.episode(split, 0) is first, "1 was used longer ago"


def test_what_readers_hold_is_left_free(root):
    split = open_split(root, "tiny", "train")
    largest = max(split.episode(number).num_bytes for number in range(4))
    cache = EpisodeCache()
    cache.set_budget(5 * largest, readers=1)
    for number in range(4):
        cache.episode(split, number)
    assert 0 < cache.num_bytes <= 3 * largest
    cache.set_budget(largest, readers=1)
    assert cache.num_bytes == 0
    cache.episode(split, 0)
    assert cache.num_bytes == 0


def test_a_budget_is_divided_and_one_that_is_too_small_is_refused(root):
    assert plan(100, 2**20, 8) == (8, 89 * 2**20)
    assert plan(5, 2**20, 8) == (2, 0)
    with pytest.raises(ConfigError, match="data.memory_mb' is 3.5, but one batch ahead .* takes 4 MB"):
        plan(3.5, 2**20, 8)
    with pytest.raises(ConfigError, match="data.memory_mb"):
        open_stream(config(root, memory_mb=1.0, resolution=224), batch_size=64, seed=0)


def test_an_epoch_gives_its_memory_back(root):
    stream = open_stream(config(root), batch_size=4, seed=0)
    assert sum(int((batch["episode"] >= 0).sum()) for batch in stream.epoch()) == 18
    assert stream.memory["kept_mb"] == 0 and stream.memory["kept_hits"] > 0


GROWTH = """
import sys
from data_pipelines.reading_rate import resident_mb
from data_pipelines.stream import open_stream
settings = {"dir": sys.argv[1], "mixture": "tiny", "split": "train"}
settings |= {"resolution": 80, "offsets_s": (0.2, 0.4)}
streams, before = [], None
for memory_mb in (12.0, 512.0):
    streams.append(open_stream({**settings, "memory_mb": memory_mb}, batch_size=16, seed=0))
    streams[-1].batch(0)
    before, most = before or resident_mb(), 0.0
    for step, _ in streams[-1].batches(0, readers=2, prefetch=2):
        most = max(most, resident_mb())
        if step == 80:
            break
    print(most - before, streams[-1].memory["kept_mb"])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads resident memory from /proc")
def test_resident_memory_stays_within_the_budget(tmp_path):
    write_rlds(tmp_path, lengths={"train": (100,) * 16}, size=(64, 64))
    command = [sys.executable, "-c", GROWTH, str(tmp_path)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    (small, little), (both, much) = (map(float, line.split()) for line in output.splitlines())
    # All of it takes 20 MB as records and 20 MB as decoded frames.
    assert little <= 12 and small < 12 + 6
    assert much > 30 and both > 24, "the budget is what held it back"
