import json

from rlds_writer import write_rlds

from farsighted_jax.bench import data as bench


def test_bench_reports_rate_memory_and_host(tmp_path):
    write_rlds(tmp_path)
    settings = {
        "dir": str(tmp_path),
        "mixture": "tiny",
        "split": "train",
        "resolution": 8,
        "offsets_s": (0.2, 0.4),
    }
    found = bench.run(settings, batch_size=4, num_batches=12, readers=2, warm_up=1)
    assert json.loads(json.dumps(found)) == found
    assert found["batches"] == 12 and found["frames_per_sample"] == 3 and found["resolution"] == 8
    assert 12 * 4 * 2 <= found["frames_per_s"] * found["seconds"] * 1.1 and found["frames_per_s"] > 0
    assert 10 < found["rss_mb"] and 0 < found["first_batch_s"] < 10 and found["host"]["cores"] >= 1


def test_growth_is_a_trend_and_not_the_last_value():
    assert bench._growth([100.0] * 99 + [500.0]) < 20
    assert bench._growth([float(i) for i in range(100)]) == 50
    assert bench._growth([3.0]) == 0
