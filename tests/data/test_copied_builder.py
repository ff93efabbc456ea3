"""LeRobot datasets, videos and RLDS of another layout are the same as RLDS."""

import numpy as np
import pytest
from lerobot_writer import frame, write_film, write_lerobot
from rlds_writer import write_rlds

from data_pipelines.builders import copied
from data_pipelines.dataset import open_split
from data_pipelines.language.paraphrases import ways_to_say


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("copied")
    write_lerobot(
        root / "data", "v3.0", "arm", lengths=(5, 4), info={"splits": {"train": "0:1", "val": "1:2"}}
    )
    write_film(root / "data" / "films" / "a.mp4", [frame(0, step) for step in range(6)], fps=10)
    (root / "data" / "films" / "a.txt").write_text("pour the tea\nfill the cup")
    write_rlds(root / "data", "robot", lengths={"train": (3, 4)}, depth="tensor", wrist=True)
    return root


@pytest.mark.parametrize("name", ["arm", "films", "robot"])
def test_a_copy_gives_the_same_episodes(root, name):
    copied.main([str(root / "data"), name, str(root / "copies")])
    for split in ("train", "val") if name == "arm" else ("train",):
        source, copy = (open_split(root / folder, name, split) for folder in ("data", "copies"))
        assert copy.num_episodes == source.num_episodes and copy.version == "1.0.0"
        assert (copy.spec.action, copy.spec.hz) == (source.spec.action, source.spec.hz)
        for first, second in zip(source.episodes(), copy.episodes(), strict=True):
            assert first.instruction == second.instruction and first.num_steps == second.num_steps
            assert ways_to_say(first, source.spec) == ways_to_say(second, copy.spec)
            assert len(ways_to_say(second, copy.spec)) == (2 if name == "films" else 1)
            for array in ("actions", "states"):
                np.testing.assert_array_equal(getattr(first, array), getattr(second, array))
            for camera in source.spec.cameras:
                for step in range(first.num_steps):
                    np.testing.assert_array_equal(first.rgb(step, camera.name), second.rgb(step, camera.name))
                    if camera.depth_key:
                        found = second.depth(step, camera.name) * copied.DEPTH_UNIT_M
                        np.testing.assert_allclose(found, first.depth(step, camera.name), atol=5e-4)


def test_pictures_may_be_jpeg(root, tmp_path):
    copied.main([str(root / "data"), "films", str(tmp_path), "--jpeg", "90"])
    source, copy = open_split(root / "data", "films", "train"), open_split(tmp_path, "films", "train")
    assert copy.episode(0).rgb_bytes(3).startswith(b"\xff\xd8")
    difference = source.episode(0).rgb(3).astype(int) - copy.episode(0).rgb(3)
    assert np.abs(difference).mean() < 6
