import json

import pytest

from farsighted_jax.train import goodput


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass only when told to."""
    now = [100.0]
    monkeypatch.setattr(goodput.time, "perf_counter", lambda: now[0])

    def passes(seconds):
        now[0] += seconds

    return passes


def session(folder, clock, first, last, steps_s, compile_s=4.0):
    """Starts in 6 s, compiles, runs steps with a tenth of their time waiting for data, saves in 2 s."""
    ledger = goodput.Ledger(folder, began=goodput.time.perf_counter() - 1.0)
    clock(5.0)
    with ledger.within("compile"):
        clock(compile_s)
    ledger.done(first)
    ledger.to("steps")
    for step in range(first + 1, last + 1):
        with ledger.within("data"):
            clock(0.1 * steps_s)
        clock(0.9 * steps_s)
        ledger.done(step)
    with ledger.within("checkpoint"):
        clock(2.0)
    return ledger


def test_every_second_goes_to_one_kind(tmp_path, clock):
    ledger = session(tmp_path, clock, 0, 10, 1.0)
    ledger.close()
    found = json.loads((tmp_path / goodput.LEDGER).read_text())
    seconds = {
        "start": 6,
        "compile": 4,
        "steps": 9,
        "data": 1,
        "checkpoint": 2,
        "evaluation": 0,
        "repeated": 0,
    }
    assert found["seconds"] == pytest.approx(seconds)
    assert found["goodput"] == pytest.approx(9 / 22, abs=1e-5)


def test_steps_that_were_lost_are_no_good_put(tmp_path, clock):
    session(tmp_path, clock, 0, 10, 1.0).close()
    clock(1000.0)
    # The last checkpoint was that of step 6: four of ten steps come again.
    ledger = session(tmp_path, clock, 6, 8, 1.0)
    totals = ledger.totals()
    assert totals["seconds"]["repeated"] == pytest.approx(0.4 * 9)
    assert totals["seconds"]["steps"] == pytest.approx(9 + 1.8 - 3.6)
    assert sum(totals["seconds"].values()) == pytest.approx(22 + 14)
    ledger.close()
    found = json.loads((tmp_path / goodput.LEDGER).read_text())
    assert [(each["first_step"], each["last_step"]) for each in found["sessions"]] == [(0, 10), (6, 8)]


def test_it_is_written_now_and_then_and_not_for_nothing(tmp_path, clock):
    ledger = session(tmp_path, clock, 0, 1, 1.0)
    ledger.write()
    assert not (tmp_path / goodput.LEDGER).exists()
    clock(31.0)
    ledger.write()
    assert (tmp_path / goodput.LEDGER).exists()
    (tmp_path / goodput.LEDGER).unlink()
    goodput.Ledger(tmp_path).close()
    assert not (tmp_path / goodput.LEDGER).exists()
    session(None, clock, 0, 1, 1.0).close()


@pytest.mark.parametrize("text", ["", "{}", '{"sessions": [{}]}', '{"sessions": 3}'])
def test_a_ledger_that_cannot_be_read_begins_anew(tmp_path, clock, text):
    (tmp_path / goodput.LEDGER).write_text(text)
    ledger = session(tmp_path, clock, 0, 10, 1.0)
    assert ledger.totals()["seconds"]["steps"] == pytest.approx(9)
