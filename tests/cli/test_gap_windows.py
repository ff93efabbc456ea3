"""How many windows each frame gap is scored on."""

from types import SimpleNamespace

import pytest

from farsighted_jax.cli.evaluate import _gap_scored


class Windows:
    """Ten windows in batches of two."""

    batch_size, num_windows = 2, 10

    def batch(self, step):
        return f"shuffled {step}"

    def epoch(self):
        return iter(["all"])


@pytest.mark.parametrize(
    "section, expected",
    [
        ({}, ["all"]),
        ({"gap_batches": 0}, ["all"]),
        ({"gap_batches": 5}, ["all"]),
        ({"gap_batches": 3}, ["shuffled 0", "shuffled 1", "shuffled 2"]),
    ],
)
def test_so_many_batches_are_drawn_where_there_are_more(section, expected):
    run = SimpleNamespace(config=SimpleNamespace(eval=section))
    assert list(_gap_scored(run, Windows())) == expected
