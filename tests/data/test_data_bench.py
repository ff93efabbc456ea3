import json

import numpy as np
import pytest
from rlds_writer import write_rlds

from data_pipelines import reading_rate, tf_data
from data_pipelines.stream import open_stream
from farsighted_jax.bench import data as bench


def settings(root, **changes):
    return {
        "dir": str(root), "mixture": "tiny", "split": "train", "resolution": 8, "offsets_s": (0.2, 0.4),
    } | changes  # fmt: skip


def test_bench_reports_rate_memory_and_host(tmp_path):
    write_rlds(tmp_path)
    found = bench.run(settings(tmp_path), batch_size=4, num_batches=12, readers=2, warm_up=1)
    assert json.loads(json.dumps(found)) == found
    assert found["batches"] == 12 and found["frames_per_sample"] == 3 and found["resolution"] == 8
    assert 12 * 4 * 2 <= found["frames_per_s"] * found["seconds"] * 1.1 and found["frames_per_s"] > 0
    assert found["memory"]["budget_mb"] == 1024 and found["memory"]["kept_hits"] > 0
    assert (
        10 < found["rss_mb"] <= found["peak_mb"]
        and 0 < found["first_batch_s"] < 10
        and found["host"]["cores"] >= 1
    )


def test_growth_is_a_trend_and_not_the_last_value():
    assert reading_rate._growth([100.0] * 99 + [500.0]) < 20
    assert reading_rate._growth([float(i) for i in range(100)]) == 50
    assert reading_rate._growth([3.0]) == 0


@pytest.mark.parametrize("resolution", [8, 40])
def test_tf_data_gives_the_same_windows_and_images(tmp_path, resolution):
    pytest.importorskip("tensorflow")
    folder = write_rlds(tmp_path, size=(24, 32), shards=1)
    config = settings(tmp_path, resolution=resolution, whole_windows=True, normalization="none")
    stream = open_stream(config, batch_size=14, seed=0)
    (ours,) = stream.epoch()
    theirs = next(
        tf_data.window_batches(
            str(folder), "train", rgb_key="observation/image", action_key="action", steps=[1, 2],
            action_horizon=4, resolution=resolution, batch_size=14, shuffle=0,
        ).as_numpy_iterator()
    )  # fmt: skip
    assert ours["frame_valid"].all()
    difference = np.abs(ours["rgb"].astype(int) - theirs["rgb"])
    assert difference.max() <= 2 and difference.mean() < 0.5
    valid = ours["action_valid"]
    assert valid.shape == theirs["action"].shape
    np.testing.assert_allclose(ours["action"][valid], theirs["action"][valid], rtol=1e-6)


def test_tf_data_needs_tfrecord_and_one_dataset(tmp_path):
    pytest.importorskip("tensorflow")
    write_rlds(tmp_path, file_format="array_record")
    write_rlds(tmp_path, "other")
    options = {"batch_size": 4, "seconds": 0.1, "readers": 1, "prefetch": 1}
    for mixture in ("tiny", "tiny:1,other:1"):
        with pytest.raises(bench.BenchError, match="expected one RLDS dataset of TFRecord"):
            bench.beside_tf_data(settings(tmp_path, mixture=mixture), **options)


@pytest.mark.slow
def test_both_are_measured_in_processes_of_their_own(tmp_path):
    pytest.importorskip("tensorflow")
    write_rlds(tmp_path)
    found = bench.beside_tf_data(settings(tmp_path), batch_size=4, seconds=0.5, readers=1, prefetch=2)
    assert json.loads(json.dumps(found)) == found
    assert found["times"] > 0 and found["cpu_times"] > 0 and 0 < found["memory_share"] < 1
    assert found["tf_data"]["peak_mb"] > found["reader"]["peak_mb"] > 30
