"""A dataset that workers of Apache Beam wrote is the one that is written without."""

import argparse

import numpy as np
import pytest
from test_builder_template import write_recordings

from data_pipelines.builders import episodes as episodes_lib
from data_pipelines.builders import template
from data_pipelines.builders.episodes import Recordings
from data_pipelines.dataset import open_split
from data_pipelines.errors import DatasetError

pytest.importorskip("apache_beam", reason="extra `beam`")

WORKERS = ("--runner=DirectRunner", "--direct_num_workers=2", "--direct_running_mode=multi_processing")


@pytest.fixture(scope="module")
def splits(tmp_path_factory):
    files = write_recordings(tmp_path_factory.mktemp("files"))
    return {name: Recordings(paths, template.episodes) for name, paths in template.recordings(files).items()}


@pytest.mark.slow
def test_workers_write_the_same_dataset(splits, tmp_path):
    for name, beam in (("plain", None), ("beam", WORKERS)):
        episodes_lib.write_dataset(tmp_path / name, template.SPEC, splits, beam=beam)
    for split in ("train", "val"):
        plain, built = (open_split(tmp_path / name, "my_robot", split) for name in ("plain", "beam"))
        assert plain.num_episodes == built.num_episodes == len(splits[split].places)
        assert plain.spec == built.spec
        for first, second in zip(plain.episodes(), built.episodes(), strict=True):
            assert first.instruction == second.instruction
            np.testing.assert_array_equal(first.actions, second.actions)
            np.testing.assert_array_equal(first.states, second.states)
            steps = range(first.num_steps)
            assert [first.rgb_bytes(step) for step in steps] == [second.rgb_bytes(step) for step in steps]


@pytest.mark.parametrize(
    ("flags", "options"),
    [
        (WORKERS, {"runner": "DirectRunner", "direct_num_workers": 2}),
        (("--runner=DataflowRunner", "--project=p"), {"runner": "DataflowRunner", "project": "p"}),
        (("--runner=FlinkRunner", "--flink_master=h:8081"), {"flink_master": "h:8081"}),
        (("--runner=SparkRunner", "--spark_master_url=spark://h"), {"spark_master_url": "spark://h"}),
    ],
)
def test_flags_after_beam_reach_its_runner(flags, options):
    parser = argparse.ArgumentParser()
    episodes_lib.add_beam_flags(parser)
    parsed = episodes_lib._on_beam(parser.parse_args(["--beam", *flags]).beam).beam_options.get_all_options()
    assert options.items() <= parsed.items()


def two_of(path):
    for _ in range(2):
        yield from template.episodes(path)


def test_a_place_may_hold_several_episodes_which_keep_their_order(splits, tmp_path):
    places = {"train": Recordings(splits["train"].places[:3], two_of)}
    episodes_lib.write_dataset(tmp_path, template.SPEC, places, beam=())
    found = [episode.actions[0, 0] for episode in open_split(tmp_path, "my_robot", "train").episodes()]
    assert len(found) == 6 and found[::2] == found[1::2] and len(set(found)) == 3


def test_a_mistake_is_named(splits, tmp_path):
    with pytest.raises(
        DatasetError, match=r"Apache Beam shares out `Recordings`, found functions for \['val'\]"
    ):
        mixed = {**splits, "val": lambda: template.episodes(splits["val"].places[0])}
        episodes_lib.write_dataset(tmp_path, template.SPEC, mixed, beam=())
    damaged = Recordings([*splits["train"].places[:2], splits["train"].places[2]], short_third)
    with pytest.raises(Exception, match=r"my_robot:train, episode 0 of .*002: lengths differ"):
        episodes_lib.write_dataset(tmp_path, template.SPEC, {"train": damaged}, beam=())


def short_third(path):
    for episode in template.episodes(path):
        yield episode | ({"state": np.zeros((1, 4))} if path.name == "002" else {})
