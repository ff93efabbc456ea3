import json
import sys
import types

from farsighted_jax.train.writer import METRICS, MetricsWriter, Progress


def _lines(folder):
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def _write(folder, resumed_step, steps):
    writer = MetricsWriter(folder, resumed_step)
    for step in steps:
        writer.write(step, {"train/loss": float(step)})
    writer.close()


def test_resume_drops_lines_after_the_restored_step(tmp_path):
    _write(tmp_path, 0, [1, 2, 3, 4, 5])
    _write(tmp_path, 3, [4, 5, 6])
    assert [line["step"] for line in _lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_new_run_starts_an_empty_file(tmp_path):
    _write(tmp_path, 0, [1, 2])
    _write(tmp_path, 0, [1])
    assert [line["step"] for line in _lines(tmp_path)] == [1]


def test_a_line_cut_off_by_a_crash_is_dropped_or_completed(tmp_path):
    for tail in ('{"step": 2, "train/lo', '{"step": 2, "train/loss": 2.0}'):
        (tmp_path / METRICS).write_text('{"step": 1, "train/loss": 1.0}\n' + tail)
        _write(tmp_path, 2, [3])
        assert [line["step"] for line in _lines(tmp_path)][-1] == 3


def test_not_finite_becomes_null(tmp_path):
    writer = MetricsWriter(tmp_path, 0)
    writer.write(1, {"train/loss": float("nan"), "data/ids_digest": "ab"})
    writer.close()
    assert _lines(tmp_path) == [{"step": 1, "train/loss": None, "data/ids_digest": "ab"}]


def test_progress_prints_plain_lines_or_draws_a_bar(capsys):
    plain = Progress(10, terminal=False)
    plain.begin(5)
    plain.advance(6)
    plain.show(6, {"train/loss": 0.25, "train/samples_per_s": 3.0})
    plain.close()
    assert "step 6/10, loss 0.25, samples/s 3" in capsys.readouterr().out
    bar = Progress(10, terminal=True)
    bar.begin(5)
    bar.advance(6)
    bar.show(6, {"train/loss": 0.25})
    bar.message("hello")
    bar.close()
    drawn = capsys.readouterr()
    assert "6/10" in drawn.err and "loss=0.25" in drawn.err and "hello" in drawn.out


def test_tensorboard_gets_the_numbers_where_it_is_installed(tmp_path, monkeypatch):
    calls = []

    class Board:
        def __init__(self, folder, purge_step):
            calls.append(("purge", purge_step))

        def add_scalar(self, *arguments):
            calls.append(arguments)

        def close(self):
            calls.append("closed")

    monkeypatch.setitem(sys.modules, "tensorboardX", types.SimpleNamespace(SummaryWriter=Board))
    writer = MetricsWriter(tmp_path, 3)
    writer.write(4, {"train/loss": 0.5, "train/error": float("nan"), "data/ids_digest": "ab"})
    writer.close()
    assert calls == [("purge", 4), ("train/loss", 0.5, 4), "closed"]
